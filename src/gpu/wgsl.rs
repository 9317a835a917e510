//! Two things plain WGSL lacks: `#import shared/NAME.wgsl` (each fragment once) and constants from Rust.

use crate::{Error, Result};
use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The fragments that a kernel file may import.
const SHARED: &[(&str, &str)] = &[
    ("shared/attention.wgsl", include_str!("../../shaders/shared/attention.wgsl")),
    ("shared/attention_end.wgsl", include_str!("../../shaders/shared/attention_end.wgsl")),
    ("shared/attention_grad.wgsl", include_str!("../../shaders/shared/attention_grad.wgsl")),
    ("shared/attention_forward.wgsl", include_str!("../../shaders/shared/attention_forward.wgsl")),
    ("shared/attention_subgroup.wgsl", include_str!("../../shaders/shared/attention_subgroup.wgsl")),
    ("shared/attention_tile.wgsl", include_str!("../../shaders/shared/attention_tile.wgsl")),
    ("shared/conv2d.wgsl", include_str!("../../shaders/shared/conv2d.wgsl")),
    ("shared/conv2d_tile.wgsl", include_str!("../../shaders/shared/conv2d_tile.wgsl")),
    ("shared/elementwise.wgsl", include_str!("../../shaders/shared/elementwise.wgsl")),
    ("shared/float.wgsl", include_str!("../../shaders/shared/float.wgsl")),
    ("shared/fold.wgsl", include_str!("../../shaders/shared/fold.wgsl")),
    ("shared/functions.wgsl", include_str!("../../shaders/shared/functions.wgsl")),
    ("shared/glu.wgsl", include_str!("../../shaders/shared/glu.wgsl")),
    ("shared/grid.wgsl", include_str!("../../shaders/shared/grid.wgsl")),
    ("shared/map.wgsl", include_str!("../../shaders/shared/map.wgsl")),
    ("shared/map1.wgsl", include_str!("../../shaders/shared/map1.wgsl")),
    ("shared/map2.wgsl", include_str!("../../shaders/shared/map2.wgsl")),
    ("shared/map3.wgsl", include_str!("../../shaders/shared/map3.wgsl")),
    ("shared/matmul.wgsl", include_str!("../../shaders/shared/matmul.wgsl")),
    ("shared/normaliser.wgsl", include_str!("../../shaders/shared/normaliser.wgsl")),
    ("shared/order.wgsl", include_str!("../../shaders/shared/order.wgsl")),
    ("shared/normaliser_row.wgsl", include_str!("../../shaders/shared/normaliser_row.wgsl")),
    ("shared/outer.wgsl", include_str!("../../shaders/shared/outer.wgsl")),
    ("shared/philox.wgsl", include_str!("../../shaders/shared/philox.wgsl")),
    ("shared/quad.wgsl", include_str!("../../shaders/shared/quad.wgsl")),
    ("shared/planes.wgsl", include_str!("../../shaders/shared/planes.wgsl")),
    ("shared/smooth.wgsl", include_str!("../../shaders/shared/smooth.wgsl")),
    ("shared/row_moments.wgsl", include_str!("../../shaders/shared/row_moments.wgsl")),
    ("shared/rows.wgsl", include_str!("../../shaders/shared/rows.wgsl")),
    ("shared/standardise.wgsl", include_str!("../../shaders/shared/standardise.wgsl")),
    ("shared/subgroup.wgsl", include_str!("../../shaders/shared/subgroup.wgsl")),
    ("shared/strided.wgsl", include_str!("../../shaders/shared/strided.wgsl")),
    ("shared/trig.wgsl", include_str!("../../shaders/shared/trig.wgsl")),
    ("shared/wide.wgsl", include_str!("../../shaders/shared/wide.wgsl")),
    ("shared/activation.wgsl", include_str!("../../shaders/shared/activation.wgsl")),
];

/// The WGSL that the driver sees: `constants` as `const NAME: u32`, the imported fragments, then `source`, which is the
/// text of `shaders/FILE`.
///
/// # Errors
/// An import of a fragment that does not exist.
pub(super) fn assemble(
    kernel: &str,
    file: &str,
    source: &'static str,
    constants: &[(&str, u32)],
) -> Result<String> {
    let mut out = String::new();
    for (name, value) in constants {
        out.push_str(&format!("const {name}: u32 = {value}u;\n"));
    }
    let mut included = Vec::new();
    include(kernel, &current(file, source), &mut included, &mut out)?;
    Ok(out)
}

/// The text of a shader file. In a debug build, a file of that name in the directory `GRISTMILL_SHADERS` stands in for
/// the one in the crate, to try a changed kernel without compiling, and the file `reached.txt` there lists what was
/// asked for: `cargo xtask mutate` lives by both.
fn current(file: &str, source: &'static str) -> Cow<'static, str> {
    let Some(dir) = stand_ins() else { return source.into() };
    let list = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("reached.txt"));
    // The list is an aid to a tool: a directory that cannot be written takes nothing from the kernels.
    let _ = list.and_then(|mut list| list.write_all(format!("{file}\n").as_bytes()));
    std::fs::read_to_string(dir.join(file)).map_or(source.into(), Cow::Owned)
}

/// The directory whose files stand in for the crate's.
pub(super) fn stand_ins() -> Option<&'static PathBuf> {
    static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let place = PLACE.get_or_init(|| std::env::var_os("GRISTMILL_SHADERS").map(PathBuf::from));
    place.as_ref().filter(|_| cfg!(debug_assertions))
}

fn include(kernel: &str, source: &str, included: &mut Vec<String>, out: &mut String) -> Result<()> {
    for line in source.lines() {
        let Some(rest) = line.strip_prefix("#import ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let path = rest.split("//").next().unwrap_or_default().trim();
        if included.iter().any(|seen| seen == path) {
            continue;
        }
        included.push(path.to_string());
        let Some((_, fragment)) = SHARED.iter().find(|(name, _)| *name == path) else {
            return Err(Error::Kernel {
                kernel: kernel.to_string(),
                message: format!("imports {path}, which is not a file of shaders/shared"),
            });
        };
        include(kernel, &current(path, fragment), included, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_included_once() {
        let source = "#import shared/grid.wgsl // why\n#import shared/grid.wgsl\nfn f() {}\n";
        let out = assemble("k", "k.wgsl", source, &[("WG", 64)]).unwrap();
        assert!(out.starts_with("const WG: u32 = 64u;\n"));
        assert_eq!(out.matches("fn folded").count(), 1);
        assert!(!out.contains("#import"));
    }

    #[test]
    fn an_unknown_fragment_is_an_error() {
        assert!(matches!(
            assemble("k", "k.wgsl", "#import shared/none.wgsl", &[]),
            Err(Error::Kernel { .. })
        ));
    }
}
