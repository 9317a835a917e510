//! The test binaries, built by cargo.

use crate::output::say;
use crate::{FEATURES, cargo};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub struct Binary {
    /// `table` for `tests/table.rs`; for the unit tests of a crate its name and file, since several have a main.rs.
    pub name: String,
    pub path: PathBuf,
}

/// Builds the test binaries that cargo's arguments name, such as `--tests`, and shows cargo's messages.
pub fn build(arguments: &[String]) -> Result<Vec<Binary>, String> {
    let mut command = cargo();
    command.args(["test", "--no-run"]).args(arguments).args(FEATURES);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let fail = |error: std::io::Error| format!("cargo: {error}");
    let mut child = command.spawn().map_err(fail)?;
    let mut binaries = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            match parse(&line) {
                Some(binary) => binaries.push(binary),
                None => say(line),
            }
        }
    }
    if child.wait().map_err(fail)?.success() {
        Ok(binaries)
    } else {
        Err("the tests do not build".to_string())
    }
}

/// Parses `  Executable tests/table.rs (target/debug/deps/table-a9b9470123715bd8)`, or `unittests src/lib.rs (…)`.
fn parse(line: &str) -> Option<Binary> {
    let (file, path) = line.trim().strip_prefix("Executable ")?.rsplit_once(" (")?;
    let path = std::path::absolute(path.strip_suffix(')')?).ok()?;
    let name = match file.strip_prefix("unittests ") {
        None => Path::new(file).file_stem()?.to_str()?.to_string(),
        Some(file) => {
            let binary = path.file_name()?.to_str()?;
            format!("{} {file}", binary.rsplit_once('-').map_or(binary, |(name, _)| name))
        }
    };
    Some(Binary { name, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_has_the_name_of_its_file_or_of_its_crate() {
        let name = |line| parse(line).map(|binary| binary.name);
        assert_eq!(
            name("  Executable tests/table.rs (target/debug/deps/table-a9b9)"),
            Some("table".to_string())
        );
        let unit = "  Executable unittests src/lib.rs (target/debug/deps/gristmill-a9b9)";
        assert_eq!(name(unit), Some("gristmill src/lib.rs".to_string()));
        assert_eq!(name("   Compiling gristmill v0.1.0"), None);
    }
}
