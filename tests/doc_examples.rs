//! Every public method of `Tensor` has an example in its docs, with 2 to 6 visible lines and the expected value. What
//! surrounds it, from `nn` to `io`, is used in an example of its file.

#[path = "hostile/scan.rs"]
#[allow(dead_code, reason = "its exceptions are from being called")]
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Calls `each` with the path and the text of a source file, or of all in a directory.
fn visit(path: &Path, each: &mut impl FnMut(&Path, &str)) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| visit(&entry.unwrap().path(), each));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        each(path, &std::fs::read_to_string(path).unwrap());
    }
}

/// Adds the docs of the public methods of `Tensor`.
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
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    visit(&source, &mut |_, text| scan_docs(text, &mut docs));
    let found: BTreeSet<String> = docs.keys().cloned().collect();
    let declared: BTreeSet<String> =
        scan::public_functions().into_iter().filter(|name| name.starts_with("Tensor::")).collect();
    assert!(declared.len() > 140 && found == declared, "of {declared:#?} the docs were found of {found:#?}");
    let faults: Vec<String> =
        docs.iter().filter_map(|(name, docs)| Some(format!("{name}: {}", fault(docs)?))).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where every public function is called in an example, in the file that declares it.
const PLACES: &str =
    "nn optim data metrics.rs train tensorboard/mod.rs device.rs autograd.rs random.rs io shape.rs op.rs";

/// Functions that need no example: what the docs hide, and those of traits that users write and the crate calls.
const EXCEPTIONS: [&str; 4] = ["identity", "pub trait Op:", "pub trait Callback ", "pub trait Part "];

/// The public functions of a file, `Type::name` without a `self`, else `name`; and what the visible lines of its examples
/// call, as both where the type is written.
fn declared_and_called(text: &str) -> [BTreeSet<String>; 2] {
    // As in `scan`, whose names have no files.
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let (mut block, mut example) = ("", None);
    let [mut declared, mut called] = [BTreeSet::new(), BTreeSet::new()];
    for (line, next) in text.lines().zip(text.lines().skip(1)) {
        let code = line.trim_start();
        if let Some(doc) = code.strip_prefix("///").or_else(|| code.strip_prefix("//!")).map(str::trim) {
            if let Some(kind) = doc.strip_prefix("```") {
                example = if example.is_none() { Some(matches!(kind, "" | "no_run")) } else { None };
            } else if example == Some(true) && !doc.starts_with("# ") {
                for (end, _) in doc.match_indices('(') {
                    let path = doc[..end].rsplit(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).next();
                    let path = path.unwrap_or_default();
                    let from = path.rmatch_indices("::").map(|(at, _)| at + 2).chain([0]);
                    called.extend(from.take(2).map(|at| path[at..].to_string()));
                }
            }
        } else if !line.is_empty() && !line.starts_with([' ', '}', ')', '/', '#']) {
            block = line;
        }
        let of_trait = line.strip_prefix("    fn ").filter(|_| block.starts_with("pub trait "));
        let Some(rest) = code.strip_prefix("pub fn ").or(of_trait) else { continue };
        let name = rest.split(['(', '<']).next().unwrap_or_default();
        let owner = block.strip_prefix("impl").map(|rest| rest.strip_prefix("<'a>").unwrap_or(rest).trim());
        match owner.and_then(|owner| owner.split(['<', ' ']).next()) {
            _ if EXCEPTIONS.iter().any(|what| *what == name || block.starts_with(what)) => false,
            Some(owner) if !format!("{rest}{next}").contains("self") => {
                declared.insert(format!("{owner}::{name}"))
            }
            _ => declared.insert(name.to_string()),
        };
    }
    [declared, called]
}

#[test]
fn every_public_function_is_used_in_an_example() {
    let (mut count, mut unused) = (0, Vec::new());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for place in PLACES.split(' ') {
        visit(&source.join(place), &mut |path, text| {
            let [declared, called] = declared_and_called(text);
            count += declared.len();
            unused.extend(declared.difference(&called).map(|name| format!("{}: {name}", path.display())));
        });
    }
    assert!(count > 250 && unused.is_empty(), "of {count} functions, no example calls {unused:#?}");
}
