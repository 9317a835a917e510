//! `gristmill kernel`: what a driver gets, and what naga makes of it.

use std::process::{Command, Output};

fn gristmill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gristmill")).arg("kernel").args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = gristmill(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(arguments: &[&str], part: &str) {
    let output = gristmill(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains(part), "{message}");
}

#[test]
fn a_kernel_is_printed_with_its_constants_and_where_its_parts_come_from() {
    let text = printed(&["softmax", "--constant", "LOG=1"]);
    let order = [
        "const LOG: u32 = 1u;",
        "// shaders/softmax.wgsl",
        "// shaders/shared/online_softmax.wgsl",
        "fn softmax(",
    ];
    let places = order.map(|part| text.find(part).unwrap_or_else(|| panic!("{part} is missing")));
    assert!(places.is_sorted(), "{places:?}");
    assert!(!text.contains("#import"));
}

#[test]
fn a_constant_may_be_the_name_of_a_function() {
    let text = printed(&["unary:strided", "--constant", "OP=silu"]);
    assert!(text.contains("return op_silu(x, p.attributes);"), "{text}");
    refused(&["unary:strided", "--constant", "OP=swish"], "OP: [exp, log, ");
    // Only functions with a gradient.
    refused(&["unary_grad:strided", "--constant", "SLOPE=floor"], "SLOPE: [exp, log, ");
}

#[test]
fn naga_translates_it() {
    for (language, part) in
        [("msl", "kernel void tiled"), ("hlsl", "[numthreads("), ("glsl", "#version 310 es")]
    {
        let text = printed(&["matmul:tiled", "--as", language]);
        assert!(text.contains(part), "{language}: {text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiled.spv");
    printed(&["matmul:tiled", "--as", "spirv", "--output", path.to_str().unwrap()]);
    let words = std::fs::read(path).unwrap();
    assert_eq!(words[..4], 0x0723_0203u32.to_le_bytes()); // SPIR-V's magic number
}

#[test]
fn all_kernels_are_listed_with_the_functions_that_use_them() {
    let text = printed(&["--list"]);
    assert!(gristmill::kernels().iter().all(|kernel| text.contains(&kernel.name().replace(".wgsl", ""))));
    assert!(
        text.lines()
            .any(|line| line.starts_with("softmax:softmax") && line.ends_with("softmax, log_softmax"))
    );
}

#[test]
fn slips_are_told_what_there_is() {
    refused(&["sofmax"], "gristmill kernel --list");
    refused(&["matmul"], "matmul:tiled");
    refused(&["matmul:fast"], "matmul:naive");
    refused(&["softmax", "--constant", "LOG=7"], "LOG: [0, 1]");
    refused(&["softmax", "--as", "spirv"], "--output");
    refused(&[], "<NAME>");
}
