//! The public functions that the sources declare, so that none is left out.

use std::collections::BTreeSet;
use std::path::Path;

/// What is not called, and why.
pub const EXCEPTIONS: &[(&str, &str)] = &[
    ("Device::gpu", "opens a device: tests/limits.rs"),
    ("Device::best", "opens a device: tests/limits.rs"),
    ("Device::open", "opens a device: tests/limits.rs"),
    ("Device::open_or_best", "opens a device: tests/limits.rs"),
    ("Device::open_with", "opens a device: tests/limits.rs"),
    ("Module::identity", "which module a row of a summary is of: hidden"),
    ("Pointwise::new", "made as a static: tests/custom_op.rs"),
    ("parallel_map", "a part of a twin: tests/custom_op.rs"),
    ("Saved::input", "what a gradient is made of: every op"),
    ("Saved::output", "what a gradient is made of: every op"),
    ("Saved::shape", "what a gradient is made of: every op"),
    ("ImageFolder::new", "with the feature `images`: its own tests"),
    ("ImageFolder::grey", "with the feature `images`: its own tests"),
    ("ImageFolder::transform", "with the feature `images`: its own tests"),
    ("ImageFolder::classes", "with the feature `images`: its own tests"),
    ("ImageFolder::samples", "with the feature `images`: its own tests"),
    ("kernels", "a list without arguments: tests/shaders.rs"),
];

/// Functions of public types and traits as `Type::name`, free ones by their names.
pub fn public_functions() -> BTreeSet<String> {
    const PLACES: [&str; 15] = [
        "dry_run.rs",
        "tensor.rs",
        "autograd.rs",
        "shape.rs",
        "device.rs",
        "expr.rs",
        "kernels.rs",
        "random.rs",
        "metrics.rs",
        "ops",
        "naive.rs",
        "nn",
        "optim",
        "io",
        "data",
    ];
    let mut names = BTreeSet::new();
    for place in PLACES {
        visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(place), &mut names);
    }
    names
}

fn visit(path: &Path, names: &mut BTreeSet<String>) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| visit(&entry.unwrap().path(), names));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        scan(&std::fs::read_to_string(path).unwrap(), names);
    }
}

/// The identifier that a text begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '$').collect()
}

fn scan(text: &str, names: &mut BTreeSet<String>) {
    // Blocks begin and end in the first column; tests stand last. A macro that makes methods or types is `macro_rules! m`,
    // its use `m! {`.
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut block = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if !line.is_empty() && !line.starts_with([' ', '}', ')', '/', '#']) {
            block = line;
        }
        let code = line.trim_start();
        let public = code.strip_prefix("pub fn ").or_else(|| code.strip_prefix("pub const fn "));
        // A trait's own functions stand one step in.
        let of_trait = line.strip_prefix("    fn ").filter(|_| block.starts_with("pub trait "));
        if let Some(rest) = public.or(of_trait) {
            found.push((block.to_string(), word(rest)));
        }
    }
    for (block, name) in found {
        if let Some(rest) = block.strip_prefix("macro_rules! ") {
            let makes_methods = name == "$name";
            for made in uses(text, &word(rest)) {
                names.insert(if makes_methods {
                    format!("Tensor::{made}")
                } else {
                    format!("{made}::{name}")
                });
            }
        } else if let Some(owner) = block.strip_prefix("pub trait ") {
            names.insert(format!("{}::{name}", word(owner)));
        } else if let Some(rest) = block.strip_prefix("impl") {
            let owner = rest.strip_prefix("<'a>").unwrap_or(rest).trim_start();
            names.insert(format!("{}::{name}", word(owner)));
        } else {
            names.insert(name);
        }
    }
}

/// What the uses of a macro name: the first word of each line, or of each item of a line.
fn uses(text: &str, name: &str) -> Vec<String> {
    let mut made = Vec::new();
    let start = format!("{name}! {{");
    let mut within = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(&start) {
            within = !rest.contains('}');
            made.extend(rest.split(',').map(|item| word(item.trim_start())).filter(|item| !item.is_empty()));
        } else if line.starts_with('}') {
            within = false;
        } else if within {
            let item = line.strip_prefix("    ").unwrap_or_default();
            made.push(word(item));
        }
    }
    // Types, and methods as in `relu => Relu`; not the rest of an item.
    made.retain(|item| !item.is_empty() && item != "transposed" && item != "is");
    made
}
