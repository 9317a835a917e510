//! Every public method of `Tensor` has an example in its docs, with 2 to 6 visible lines and the expected value.

#[path = "hostile/scan.rs"]
#[allow(dead_code, reason = "its exceptions are from being called")]
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Adds the docs of the public methods of `Tensor` in a file, or in all files of a directory.
fn visit(path: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| visit(&entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        scan_docs(&std::fs::read_to_string(path).unwrap(), found);
    }
}

fn scan_docs(text: &str, found: &mut BTreeMap<String, Vec<String>>) {
    // As in `scan`: blocks begin in the first column, and tests come last.
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let (mut block, mut docs) = ("", Vec::new());
    for line in text.lines() {
        if !line.is_empty() && !line.starts_with([' ', '}', ')', '/', '#']) {
            block = line;
        }
        let code = line.trim_start();
        if let Some(doc) = code.strip_prefix("///") {
            docs.push(doc.trim().to_string());
        } else if !code.starts_with("#[") {
            let public = code.strip_prefix("pub fn ").or_else(|| code.strip_prefix("pub const fn "));
            let name = match block {
                "impl Tensor {" => public.and_then(|rest| rest.split(['(', '<']).next()),
                // As in `relu => Relu`.
                "methods! {" | "methods_with_numbers! {" => code.split_once(" => ").map(|(name, _)| name),
                _ => None,
            };
            let docs = std::mem::take(&mut docs);
            if let Some(name) = name {
                found.insert(format!("Tensor::{name}"), docs);
            }
        }
    }
}

/// What is wrong with the example in these docs, if anything.
fn fault(docs: &[String]) -> Option<String> {
    // A fence with attributes, such as `ignore` or `text`, is not an example.
    let Some(begin) = docs.iter().position(|line| line == "```") else {
        return Some("no example".to_string());
    };
    let example = docs[begin + 1..].iter().take_while(|line| *line != "```");
    let shown: Vec<&String> = example.filter(|line| !line.starts_with("# ")).collect();
    if !(2..=6).contains(&shown.len()) {
        return Some(format!("an example of {} lines", shown.len()));
    }
    let asserts = shown.iter().any(|line| line.starts_with("assert"));
    (!asserts).then(|| "an example without the expected value".to_string())
}

#[test]
fn every_method_of_tensor_has_an_example() {
    let mut docs = BTreeMap::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut docs);
    let found: BTreeSet<String> = docs.keys().cloned().collect();
    let declared: BTreeSet<String> =
        scan::public_functions().into_iter().filter(|name| name.starts_with("Tensor::")).collect();
    assert!(declared.len() > 140 && found == declared, "of {declared:#?} the docs were found of {found:#?}");
    let faults: Vec<String> =
        docs.iter().filter_map(|(name, docs)| Some(format!("{name}: {}", fault(docs)?))).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
