//! Who imports whom in `src`: nobody from a floor above their own, as ARCHITECTURE.md draws the floors, and the files of a
//! directory never in a circle. Tests inside `src` may import what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The only circle that is allowed: a tensor holds its place in the graph, and the graph holds tensors.
const ALLOWED: [&str; 2] = ["autograd", "tensor"];

/// A module's path from `src`; that of `lib.rs` is empty.
type Module = Vec<String>;

/// A path in the code, and its line.
type Written = (Vec<String>, usize);

struct Source {
    path: PathBuf,
    /// All paths that may be imports.
    paths: Vec<Written>,
    /// Those of them that are visible from outside.
    exports: Vec<Written>,
    /// The macros that it exports to the root of the crate.
    macros: Vec<String>,
}

struct Import {
    from: Module,
    to: Module,
    /// The file and the line.
    place: String,
}

fn sources() -> BTreeMap<Module, Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![src.clone()];
    let mut all = BTreeMap::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(&src).unwrap().with_extension("");
            let mut module: Module = inside.iter().map(|part| part.to_str().unwrap().to_string()).collect();
            module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
            let code = without_tests(&code(&std::fs::read_to_string(&path).unwrap()));
            all.insert(module, Source::new(path, &tokens(&code)));
        }
    }
    all
}

/// The text without comments and literals; lines stay where they are.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_char = || rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'');
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => literal(rest),
            '\'' if is_char() => literal(rest),
            _ => 0,
        };
        let (gone, kept) = rest.split_at(skipped);
        out.extend(gone.chars().filter(|&c| c == '\n'));
        rest = kept;
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out.replace("r#", "")
}

/// The length of the literal that a text opens with.
fn literal(text: &str) -> usize {
    let quote = text.chars().next();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && Some(c) == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

/// The code without the items that follow `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut parts = code.split("#[cfg(test)]");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let mut depth = 0;
        let end = part.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && (c == '}' || c == ';')
        });
        let (item, rest) = part.split_at(end.map_or(part.len(), |at| at + 1));
        out.extend(item.chars().filter(|&c| c == '\n'));
        out += rest;
    }
    out
}

/// Words, `::` and other characters one by one, each with its line.
fn tokens(code: &str) -> Vec<(&str, usize)> {
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut all = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text.trim_start();
        while let Some(c) = rest.chars().next() {
            let word = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
            let length = if rest.starts_with("::") { 2 } else { word.max(c.len_utf8()) };
            all.push((&rest[..length], line));
            rest = rest[length..].trim_start();
        }
    }
    all
}

/// Adds the paths of a tree such as `a::{b, c::d}` behind `prefix`, and gives the tokens that follow it.
fn tree<'t>(
    mut tokens: &'t [(&'t str, usize)],
    prefix: &[String],
    all: &mut Vec<Written>,
) -> &'t [(&'t str, usize)] {
    let mut path = prefix.to_vec();
    let line = tokens[0].1;
    loop {
        let (word, rest) = (tokens[0].0, &tokens[1..]);
        if [",", "}", ";"].contains(&word) {
            all.push((path, line));
            return tokens;
        }
        tokens = rest;
        match word {
            "{" => {
                while tokens[0].0 != "}" {
                    tokens = tree(tokens, &path, all);
                    tokens = &tokens[usize::from(tokens[0].0 == ",")..];
                }
                return &tokens[1..];
            }
            "as" => tokens = &rest[1..],
            "::" => {}
            "self" if !path.is_empty() => {}
            _ => path.push(word.to_string()),
        }
    }
}

impl Source {
    fn new(path: PathBuf, tokens: &[(&str, usize)]) -> Source {
        let after = |word: &str, at: usize| -> BTreeSet<String> {
            let places = (0..tokens.len().saturating_sub(at)).filter(|&place| tokens[place].0 == word);
            places.map(|place| tokens[place + at].0.to_string()).collect()
        };
        // Paths may start with a module that stands in the file.
        let (own, exports_macros) = (after("mod", 1), !after("macro_export", 1).is_empty());
        let macros = if exports_macros { after("macro_rules", 2).into_iter().collect() } else { Vec::new() };
        let mut source = Source { path, paths: Vec::new(), exports: Vec::new(), macros };
        let mut rest = tokens;
        let mut before = "";
        while let [(word, line), after @ ..] = rest {
            let next = after.first().map(|next| next.0);
            rest = after;
            if *word == "use" && next != Some("<") {
                let mut found = Vec::new();
                rest = tree(after, &[], &mut found);
                if ["pub", ")"].contains(&before) {
                    source.exports.extend(found.iter().cloned());
                }
                source.paths.append(&mut found);
            } else if next == Some("::")
                && !["::", "."].contains(&before)
                && (["crate", "super"].contains(word) || own.contains(*word))
            {
                let mut path = vec![word.to_string()];
                while let [("::", _), (word, _), more @ ..] = rest {
                    path.push(word.to_string());
                    rest = more;
                }
                source.paths.push((path, *line));
            }
            before = word;
        }
        source
    }
}

/// The modules that a path written in `from` names, and those that its name is re-exported from.
fn named(sources: &BTreeMap<Module, Source>, from: &Module, path: &[String], to: &mut BTreeSet<Module>) {
    let is_bin = from.first().is_some_and(|first| first == "bin");
    let start = match path[0].as_str() {
        "crate" if is_bin => Some(from[..2].to_vec()),
        "crate" | "gristmill" => Some(Vec::new()),
        "super" => Some(from[..from.len() - 1].to_vec()),
        "self" => Some(from.clone()),
        _ => None,
    };
    let is_anchored = start.is_some();
    let mut at = start.unwrap_or_else(|| from.clone());
    let mut rest = &path[usize::from(is_anchored)..];
    while let [next, more @ ..] = rest {
        let below = [&at[..], std::slice::from_ref(next)].concat();
        if next == "super" {
            at.pop();
        } else if sources.contains_key(&below) {
            at = below;
        } else {
            break;
        }
        rest = more;
    }
    if !is_anchored && at == *from {
        return; // of another crate
    }
    if let Some(name) = rest.first() {
        let exports = sources[&at].exports.iter().filter(|(path, _)| path.last() == Some(name));
        exports.for_each(|(path, _)| named(sources, &at, path, to));
        let macros = sources.iter().filter(|(_, source)| at.is_empty() && source.macros.contains(name));
        to.extend(macros.map(|(module, _)| module.clone()));
    }
    to.insert(at);
}

/// All imports but those of the root, which re-exports what is public.
fn imports(sources: &BTreeMap<Module, Source>) -> Vec<Import> {
    let mut all = Vec::new();
    for (from, source) in sources.iter().filter(|(from, _)| !from.is_empty()) {
        for (path, line) in &source.paths {
            let mut modules = BTreeSet::new();
            named(sources, from, path, &mut modules);
            let place = format!("{}:{line}", source.path.display());
            let others = modules.into_iter().filter(|to| to != from && !to.is_empty());
            all.extend(others.map(|to| Import { from: from.clone(), to, place: place.clone() }));
        }
    }
    all
}

/// The number of each module's floor, ground floor first.
fn floors() -> BTreeMap<String, usize> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, drawn) = page.split_once("ground floor first: ").expect("ARCHITECTURE.md draws the floors");
    let (drawn, _) = drawn.split_once('.').unwrap();
    let names = |floor: &str| floor.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
    let floors = drawn.split("->").enumerate();
    floors.flat_map(|(at, floor)| names(floor).into_iter().map(move |name| (name, at))).collect()
}

#[test]
fn nobody_imports_from_a_floor_above() {
    let (sources, floors) = (sources(), floors());
    let floor = |module: &Module| match floors.get(&module[0]) {
        Some(floor) => *floor,
        None => panic!("src/{} is on no floor of ARCHITECTURE.md", module[0]),
    };
    for name in floors.keys() {
        assert!(
            sources.keys().any(|module| module.first() == Some(name)),
            "ARCHITECTURE.md draws {name}, which is gone"
        );
    }
    let upwards: Vec<String> = imports(&sources)
        .into_iter()
        .map(|import| (floor(&import.from), floor(&import.to), import))
        .filter(|(from, to, _)| from < to)
        .map(|(from, to, Import { place, from: a, to: b })| {
            format!("{place}: {} (floor {from}) imports {} (floor {to})", a.join("::"), b.join("::"))
        })
        .collect();
    assert!(upwards.is_empty(), "\n{}", upwards.join("\n"));
}

#[test]
fn no_files_of_a_directory_import_each_other_in_a_circle() {
    // By directory: who there imports whom, and where. A directory counts as one; its `mod.rs` lists and shares.
    let mut directories: BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for Import { from, to, place } in imports(&sources()) {
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (from.get(common), to.get(common))
            && !(ALLOWED.contains(&a.as_str()) && ALLOWED.contains(&b.as_str()))
        {
            let graph = directories.entry(from[..common].to_vec()).or_default();
            graph.entry(a.clone()).or_default().entry(b.clone()).or_insert(place);
        }
    }
    let mut circles = Vec::new();
    for graph in directories.values() {
        for (a, imported) in graph {
            for (b, place) in imported {
                let (mut reached, mut open) = (BTreeSet::from([b]), vec![b]);
                while let Some(next) = open.pop() {
                    open.extend(
                        graph.get(next).into_iter().flat_map(BTreeMap::keys).filter(|&to| reached.insert(to)),
                    );
                }
                if reached.contains(a) {
                    circles.push(format!("{place}: {a} imports {b}, which leads back to {a}"));
                }
            }
        }
    }
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn imports_are_found_however_they_are_written() {
    const TEXT: &str = r#"
//! use crate::comment;
pub(crate) use crate::a::{self, b::{C, d as e}, f::*};
mod own;
fn f() -> impl Sized + use<> {
    let quote = ('"', '\'', "use crate::literal; \" crate::literal");
    /// [`crate::comment::X`]
    crate::g::h(super::i, own::j, a::k, self.own::<u8>())
}
#[cfg(test)]
mod tests {
    use crate::tests;
}
use std::fmt;
"#;
    let source = Source::new(PathBuf::new(), &tokens(&without_tests(&code(TEXT))));
    let show = |all: &[Written]| {
        all.iter().map(|(path, line)| format!("{line} {}", path.join("::"))).collect::<Vec<_>>()
    };
    let exported = ["3 crate::a", "3 crate::a::b::C", "3 crate::a::b::d", "3 crate::a::f::*"];
    assert_eq!(show(&source.exports), exported);
    let others = ["8 crate::g::h", "8 super::i", "8 own::j", "14 std::fmt"];
    assert_eq!(show(&source.paths), [&exported[..], &others].concat());
}
