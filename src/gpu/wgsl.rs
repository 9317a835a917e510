//! Two things plain WGSL lacks: `#import shared/NAME.wgsl` (each fragment once) and constants from Rust.

use crate::{Error, Result};
use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The fragments that a kernel file may import.
const SHARED: &[(&str, &str)] = &[
    ("shared/attention.wgsl", include_str!("../../shaders/shared/attention.wgsl")),
    ("shared/attention_grad.wgsl", include_str!("../../shaders/shared/attention_grad.wgsl")),
    ("shared/attention_forward.wgsl", include_str!("../../shaders/shared/attention_forward.wgsl")),
    ("shared/attention_subgroup.wgsl", include_str!("../../shaders/shared/attention_subgroup.wgsl")),
    ("shared/attention_tile.wgsl", include_str!("../../shaders/shared/attention_tile.wgsl")),
    ("shared/common.wgsl", include_str!("../../shaders/shared/common.wgsl")),
    ("shared/conv2d.wgsl", include_str!("../../shaders/shared/conv2d.wgsl")),
    ("shared/conv2d_tile.wgsl", include_str!("../../shaders/shared/conv2d_tile.wgsl")),
    ("shared/elementwise.wgsl", include_str!("../../shaders/shared/elementwise.wgsl")),
    ("shared/functions.wgsl", include_str!("../../shaders/shared/functions.wgsl")),
    ("shared/reduce.wgsl", include_str!("../../shaders/shared/reduce.wgsl")),
    ("shared/glu.wgsl", include_str!("../../shaders/shared/glu.wgsl")),
    ("shared/matmul.wgsl", include_str!("../../shaders/shared/matmul.wgsl")),
    ("shared/online_softmax.wgsl", include_str!("../../shaders/shared/online_softmax.wgsl")),
    ("shared/order.wgsl", include_str!("../../shaders/shared/order.wgsl")),
    ("shared/online_softmax_row.wgsl", include_str!("../../shaders/shared/online_softmax_row.wgsl")),
    ("shared/quad.wgsl", include_str!("../../shaders/shared/quad.wgsl")),
    ("shared/plane_index.wgsl", include_str!("../../shaders/shared/plane_index.wgsl")),
    ("shared/row_layout.wgsl", include_str!("../../shaders/shared/row_layout.wgsl")),
    ("shared/group_norm.wgsl", include_str!("../../shaders/shared/group_norm.wgsl")),
    ("shared/norm_row.wgsl", include_str!("../../shaders/shared/norm_row.wgsl")),
    ("shared/subgroup.wgsl", include_str!("../../shaders/shared/subgroup.wgsl")),
    ("shared/strided.wgsl", include_str!("../../shaders/shared/strided.wgsl")),
];

/// The WGSL that the driver sees: `constants` as `const NAME: u32`, the imported fragments, then `source`, which is the
/// text of `shaders/FILE`. A constant whose value is the name of a function is called: `OP(x)` becomes `op_exp(x)`.
///
/// # Errors
/// An import of a fragment that does not exist.
pub(super) fn assemble(
    kernel: &str,
    file: &str,
    source: &'static str,
    constants: &[(&str, String)],
) -> Result<String> {
    let (numbers, functions): (Vec<_>, Vec<_>) =
        constants.iter().partition(|(_, value)| value.starts_with(|c: char| c.is_ascii_digit()));
    let mut out: String =
        numbers.iter().map(|(name, value)| format!("const {name}: u32 = {value}u;\n")).collect();
    include(kernel, file, &current(file, source), &mut Vec::new(), &mut out)?;
    for (name, value) in functions {
        out = renamed(&out, |word| (word == *name).then(|| format!("{}_{value}", name.to_lowercase())));
    }
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

/// What stands in for the built-in functions of which WGSL says nothing, or little, outside these bounds (its sections on
/// the differences from IEEE 754 and on the accuracy of floating-point operations): inside they are the adapter's own. The
/// number is one that shows wherever it gets into a result.
const WORST_CASE: &str = "
fn worst_case_exp(x: f32) -> f32 { return select(1234.5, exp(x), x >= -104.0 && x <= 88.7); }
fn worst_case_exp2(x: f32) -> f32 { return select(1234.5, exp2(x), x >= -150.0 && x < 128.0); }
fn worst_case_log(x: f32) -> f32 { return select(1234.5, log(x), x > 0.0 && x <= 0x1.fffffep+127f); }
fn worst_case_log2(x: f32) -> f32 { return select(1234.5, log2(x), x > 0.0 && x <= 0x1.fffffep+127f); }
fn worst_case_sqrt(x: f32) -> f32 { return select(1234.5, sqrt(x), x >= 0.0 && x <= 0x1.fffffep+127f); }
fn worst_case_inverseSqrt(x: f32) -> f32 { return select(1234.5, inverseSqrt(x), x > 0.0 && x <= 0x1.fffffep+127f); }
fn worst_case_floor(x: f32) -> f32 { return select(1234.5, floor(x), abs(x) >= 0.0); }
fn worst_case_ceil(x: f32) -> f32 { return select(1234.5, ceil(x), abs(x) >= 0.0); }
fn worst_case_round(x: f32) -> f32 { return select(1234.5, round(x), abs(x) >= 0.0); }
";

/// A kernel as the worst of adapters might run it that keep to the specification: built-in functions answer with nonsense
/// where WGSL lets them, and of a workgroup the last invocations go first, where software adapters begin with the first.
pub(super) fn worst_case(source: &str) -> String {
    let replaced = |word: &str| {
        WORST_CASE.contains(&format!("fn worst_case_{word}(")).then(|| format!("worst_case_{word}"))
    };
    backwards(&renamed(source, replaced)) + WORST_CASE
}

/// With the called functions renamed for which `name` has another name.
fn renamed(source: &str, name: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in source.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        let other = if c == '(' { name(&word) } else { None };
        out.push_str(other.as_ref().unwrap_or(&word));
        out.push(c);
        word.clear();
    }
    out + &word
}

/// With the invocations of each workgroup numbered from the last to the first, where they share memory. The numbers in a
/// subgroup are the adapter's: kernels that use them stay as they are.
fn backwards(source: &str) -> String {
    const INDEX: &str = "@builtin(local_invocation_index) ";
    if !source.contains("var<workgroup>") || source.contains("subgroup_invocation_id") {
        return source.to_string();
    }
    let mut size = String::new();
    let mut out = String::new();
    for line in source.lines() {
        if let Some((sides, _)) =
            line.split_once("@workgroup_size(").and_then(|(_, rest)| rest.split_once(')'))
        {
            size = sides.replace(',', " *");
        }
        let index =
            line.split_once(INDEX).and_then(|(before, rest)| Some((before, rest.strip_suffix(": u32) {")?)));
        match index {
            Some((before, name)) => out.push_str(&format!(
                "{before}{INDEX}{name}_from_last: u32) {{\n    let {name} = ({size}) - 1u - {name}_from_last;\n"
            )),
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The directory whose files stand in for the crate's.
pub(super) fn stand_ins() -> Option<&'static PathBuf> {
    static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let place = PLACE.get_or_init(|| std::env::var_os("GRISTMILL_SHADERS").map(PathBuf::from));
    place.as_ref().filter(|_| cfg!(debug_assertions))
}

/// Adds a file and what it imports, each part under a line that names its file.
fn include(
    kernel: &str,
    file: &str,
    source: &str,
    included: &mut Vec<String>,
    out: &mut String,
) -> Result<()> {
    let heading = format!("// shaders/{file}\n");
    out.push_str(&heading);
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
        include(kernel, path, &current(path, fragment), included, out)?;
        out.push_str(&heading);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_included_once() {
        let source = "#import shared/common.wgsl // why\n#import shared/common.wgsl\nfn f() {}\n";
        let out = assemble("k", "k.wgsl", source, &[("WG", "64".to_string())]).unwrap();
        assert!(out.starts_with("const WG: u32 = 64u;\n"));
        assert_eq!(out.matches("fn workgroup_index").count(), 1);
        assert!(!out.contains("#import"));
    }

    #[test]
    fn a_constant_may_name_a_function() {
        let source = "fn op_exp() {}\nfn f() { OP(); STOP(OP); }\n";
        let out = assemble("k", "k.wgsl", source, &[("OP", "exp".to_string())]).unwrap();
        assert_eq!(out, "// shaders/k.wgsl\nfn op_exp() {}\nfn f() { op_exp(); STOP(OP); }\n");
    }

    #[test]
    fn built_in_functions_are_replaced_by_name() {
        let out = worst_case("fn f(x: f32) -> f32 { return exp(-x) + exp_nan(x) * max(sqrt(x), log2(x)); }");
        let want =
            "{ return worst_case_exp(-x) + exp_nan(x) * max(worst_case_sqrt(x), worst_case_log2(x)); }";
        assert!(out.contains(want), "{out}");
    }

    #[test]
    fn invocations_are_numbered_backwards() {
        let kernel = "var<workgroup> a: array<f32, 64>;\n@compute @workgroup_size(16, N)\n\
                      fn f(@builtin(local_invocation_index) lane: u32) {\n";
        let out = backwards(kernel);
        assert!(
            out.contains("lane_from_last: u32) {\n    let lane = (16 * N) - 1u - lane_from_last;\n"),
            "{out}"
        );
        let alone = kernel.replace("workgroup>", "private>");
        assert_eq!(backwards(&alone), alone);
    }

    /// A kernel written otherwise would stay as it is, and prove nothing.
    #[test]
    fn every_kernel_has_a_worst_case_form() {
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        let mut backward = 0;
        for kernel in crate::kernels() {
            for values in kernel.variants() {
                let name = format!("{} {values:?}", kernel.name());
                let source = kernel.wgsl(&values).unwrap();
                let out = worst_case(&source);
                let module =
                    naga::front::wgsl::parse_str(&out).unwrap_or_else(|error| panic!("{name}: {error}"));
                let checked = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
                checked.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                if source.contains("var<workgroup>") && !source.contains("subgroup_invocation_id") {
                    let entries = source.matches("\n@compute").count();
                    assert_eq!(out.matches("_from_last;").count(), entries, "{name}");
                    backward += 1;
                }
            }
        }
        assert!(backward > 0);
    }

    #[test]
    fn an_unknown_fragment_is_an_error() {
        assert!(matches!(
            assemble("k", "k.wgsl", "#import shared/none.wgsl", &[]),
            Err(Error::Kernel { .. })
        ));
    }
}
