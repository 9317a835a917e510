//! How many bytes a device may hold.

use crate::{Error, Result};

/// `GRISTMILL_MEMORY_BUDGET` in bytes.
pub(crate) fn budget_from_env() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os("GRISTMILL_MEMORY_BUDGET") else { return Ok(None) };
    let text = text.to_string_lossy();
    let bytes = parse_bytes(&text).ok_or_else(|| {
        let message = format!(
            "GRISTMILL_MEMORY_BUDGET={text} is not a size above 0, such as 1500000000, 1.5GB (10^9 bytes each) or \
             2GiB (2^30 each)"
        );
        Error::argument("device", message)
    })?;
    Ok(Some(bytes))
}

/// A size above 0: a number, and perhaps a unit. A unit's `B` may be left out, spaces and the case do not matter.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return None,
    };
    let number = number.trim();
    let bytes = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(unit)?,
        Err(_) => {
            // Refuses 2^64 and more, which a conversion would turn into u64::MAX.
            let bytes = number.parse::<f64>().ok()? * unit as f64;
            (0.0..18_446_744_073_709_551_616.0).contains(&bytes).then_some(bytes as u64)?
        }
    };
    (bytes > 0).then_some(bytes)
}

/// The budget of what lives in host memory: as the environment says, else three quarters of the machine's.
pub(crate) fn host_budget() -> Result<u64> {
    if let Some(bytes) = budget_from_env()? {
        return Ok(bytes);
    }
    // Elsewhere than on Linux the allocator refuses by itself.
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Ok(total.map_or(u64::MAX, |kib| kib * 1024 / 4 * 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_budgets_have_units() {
        let sizes = [
            ("1500", 1500),
            ("1GB", 1_000_000_000),
            ("1GiB", 1 << 30),
            ("1g", 1_000_000_000),
            (" 2 mib ", 2 << 20),
            ("3K", 3000),
            ("1.5 TB", 1_500_000_000_000),
            ("0.5gib", 1 << 29),
            ("7B", 7),
            ("4Ti", 4 << 40),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        let nonsense = [
            "",
            " ",
            "much",
            "GB",
            "0",
            "0GB",
            "0.0000001",
            "-1",
            "-0",
            "-1GB",
            "NaN",
            "inf",
            "infGB",
            "1e9",
            "1 G B",
            "1GBB",
            "5i",
            "1,5GB",
            "1..5GB",
            "0x10",
            "18446744073709551616",
            "99999999999999999999TB",
            "20000000TiB",
            "1PB",
            "1GB\u{0}",
        ];
        for text in nonsense {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
