//! The mutants of a WGSL file: every place where one token can be replaced by another.

use std::collections::{BTreeMap, BTreeSet};

/// One change of one file.
pub struct Mutant {
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// The line before and after the change, trimmed.
    pub was: String,
    pub is: String,
    /// Number of this mutant among those with the same line text and change, from 1.
    nth: usize,
    /// The enclosing function, constant or variable; `None` if the file has no declarations.
    pub declaration: Option<String>,
    /// The whole text of the changed file.
    pub text: String,
}

impl Mutant {
    /// The identity of the mutant in lists, which does not depend on the line number.
    pub fn key(&self) -> String {
        let nth = if self.nth > 1 { format!(" ({})", self.nth) } else { String::new() };
        format!("{}\t{}{nth}\t{}", self.file, self.was, self.is)
    }
}

/// `count` of the mutants, drawn by the seed, in their order.
pub fn sample(mutants: Vec<Mutant>, count: usize, seed: u64) -> Vec<Mutant> {
    let mut drawn: Vec<(u64, usize)> =
        mutants.iter().enumerate().map(|(at, m)| (hash(&format!("{seed} {at} {}", m.key())), at)).collect();
    drawn.sort_unstable();
    let kept: BTreeSet<usize> = drawn.into_iter().take(count).map(|(_, at)| at).collect();
    mutants.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, mutant)| mutant).collect()
}

/// FNV-1a.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A token of WGSL code: position and text.
struct Token<'t> {
    at: usize,
    text: &'t str,
}

/// The tokens of a file, without comments, imports and attributes.
fn tokens(text: &str) -> Vec<Token<'_>> {
    const LONG: [&str; 12] = ["<<=", ">>=", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=", "->"];
    let mut tokens = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split("//").next().unwrap_or_default();
        let mut at = 0;
        while at < code.len() && !code.starts_with("#import") {
            let rest = &code[at..];
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let first = rest.chars().next().unwrap_or(' ');
            let len = if word(first) {
                let number = first.is_ascii_digit();
                // The sign of an exponent belongs to the number.
                let mut before = ' ';
                let end = rest.find(|c: char| {
                    let inside = word(c)
                        || (number && (c == '.' || ((c == '-' || c == '+') && "ep".contains(before))));
                    before = c;
                    !inside
                });
                end.unwrap_or(rest.len())
            } else if let Some(long) = LONG.iter().find(|long| rest.starts_with(**long)) {
                long.len()
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(Token { at: start + at, text: &rest[..len] });
            }
            at += len;
        }
        start += line.len();
    }
    tokens
}

/// Every mutant of a file.
pub fn mutants(file: &str, shaders: &BTreeMap<String, String>) -> Vec<Mutant> {
    let text = &shaders[file];
    let tokens = tokens(text);
    let fields = param_fields(text);
    let mut all = Vec::new();
    let (mut skip_until, mut in_struct) = (0, false);
    for (i, token) in tokens.iter().enumerate() {
        let t = |at: usize| tokens.get(at).map_or("", |token| token.text);
        let before = if i == 0 { "" } else { t(i - 1) };
        in_struct = (in_struct && before != "}") || token.text == "struct";
        // Skip attributes such as @binding(0), and the arguments of types.
        if token.text == "@" && t(i + 2) == "(" {
            skip_until = skip_until.max(closing(&tokens, i + 2, "(", ")"));
        }
        if token.text == "<" && TYPES.contains(&before) {
            skip_until = skip_until.max(closing(&tokens, i, "<", ">"));
        }
        if i <= skip_until && skip_until > 0 || in_struct {
            continue;
        }
        for (end, change) in changes(&tokens, i, &fields) {
            let (from, to) = (token.at, tokens[end].at + tokens[end].text.len());
            let changed = format!("{}{change}{}", &text[..from], &text[to..]);
            let line = text[..from].matches('\n').count();
            let of = |text: &str| text.lines().nth(line).unwrap_or_default().trim().to_string();
            let (was, is) = (of(text), of(&changed));
            let nth = 1 + all.iter().filter(|other: &&Mutant| other.was == was && other.is == is).count();
            let declaration = declarations(text).into_iter().rev().find(|(start, _)| *start <= from);
            let declaration = declaration.map(|(_, name)| name.to_string());
            let (file, line) = (file.to_string(), line + 1);
            all.push(Mutant { file, line, was, is, nth, declaration, text: changed });
        }
    }
    all
}

/// The declarations of a file: start and name. They begin in the first column.
fn declarations(text: &str) -> Vec<(usize, &str)> {
    let (mut all, mut start) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        let name = ["fn ", "const ", "alias ", "struct ", "var<"].iter().find_map(|keyword| {
            let rest = line.strip_prefix(keyword)?;
            let rest = if *keyword == "var<" { rest.split_once("> ")?.1 } else { rest };
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
        });
        all.extend(name.map(|name| (start, name)));
        start += line.len();
    }
    all
}

/// For each file and name of a declaration in a shared file: the kernel files that use it, directly or not.
pub fn users(shaders: &BTreeMap<String, String>) -> BTreeMap<(&str, &str), BTreeSet<&str>> {
    let imports = |file: &str| shaders[file].lines().filter_map(|line| line.strip_prefix("#import "));
    let mut all: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (kernel, text) in shaders.iter().filter(|(file, _)| !file.starts_with("shared/")) {
        let mut files: Vec<&str> = imports(kernel).collect();
        let mut next = 0;
        while let Some(file) = files.get(next) {
            let more: Vec<&str> = imports(file).filter(|file| !files.contains(file)).collect();
            files.extend(more);
            next += 1;
        }
        let (mut bodies, mut owners) = (BTreeMap::new(), BTreeMap::new());
        for &file in &files {
            let (text, declared) = (&*shaders[file], declarations(&shaders[file]));
            for (at, &(start, name)) in declared.iter().enumerate() {
                let end = declared.get(at + 1).map_or(text.len(), |next| next.0);
                bodies.insert(name, &text[start..end]);
                owners.insert(name, file);
            }
        }
        let mut open = vec![&**text];
        // Declarations that only the host uses, such as entry points.
        for &file in &files {
            for (start, name) in declarations(&shaders[file]) {
                let before = shaders[file][..start].lines().next_back().unwrap_or_default();
                if before.starts_with("@compute")
                    && let Some(body) = bodies.remove(name)
                {
                    open.push(body);
                    all.entry((file, name)).or_default().insert(kernel);
                }
            }
        }
        while let Some(body) = open.pop() {
            for token in tokens(body) {
                // A constant that names a function, `OP(x)`, may mean each `op_NAME`.
                let named = format!("{}_", token.text.to_lowercase());
                let called = body[token.at..].starts_with(&format!("{}(", token.text.to_uppercase()));
                let means = |name: &&str| *name == token.text || (called && name.starts_with(&named));
                let used: Vec<&str> = bodies.keys().copied().filter(means).collect();
                for name in used {
                    open.extend(bodies.remove(name));
                    all.entry((owners[name], name)).or_default().insert(kernel);
                }
            }
        }
    }
    all
}

const TYPES: [&str; 9] = ["array", "var", "ptr", "bitcast", "vec2", "vec3", "vec4", "atomic", "mat4x4"];

/// The position of the token that closes the bracket at `open`.
fn closing(tokens: &[Token], open: usize, left: &str, right: &str) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += usize::from(token.text == left);
        if token.text == right {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    open
}

/// The u32 fields of the file's `struct Params`, which may be exchanged.
fn param_fields(text: &str) -> Vec<String> {
    let Some(body) = text.split("struct Params {").nth(1).and_then(|rest| rest.split('}').next()) else {
        return Vec::new();
    };
    let code: Vec<&str> = body.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let fields = code.join(" ");
    let field = |field: &str| field.trim().strip_suffix(": u32").map(str::to_string);
    fields.split(',').filter_map(field).collect()
}

/// The replacements for the tokens from `i` to the first of each returned pair.
fn changes(tokens: &[Token], i: usize, fields: &[String]) -> Vec<(usize, String)> {
    let t = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let (token, before) = (t(i), if i == 0 { "" } else { t(i - 1) });
    let here = |changes: &[&str]| changes.iter().map(|change| (i, change.to_string())).collect::<Vec<_>>();
    // A binary operator follows a value.
    let binary =
        before.ends_with(|c: char| c.is_ascii_alphanumeric() || "_)]".contains(c)) && before != "return";
    match token {
        "workgroupBarrier" => vec![(i + 2, String::new())],
        "<" => here(&["<=", ">="]),
        "<=" => here(&["<", ">"]),
        ">" => here(&[">=", "<="]),
        ">=" => here(&[">", "<"]),
        "==" => here(&["!="]),
        "!=" => here(&["=="]),
        "&&" => here(&["||"]),
        "||" => here(&["&&"]),
        "+=" => here(&["-="]),
        "-=" => here(&["+="]),
        "+" if binary && t(i + 1) != "=" => here(&["-"]),
        "-" if binary && t(i + 1) != "-" => here(&["+"]),
        "!" => here(&[""]),
        "true" => here(&["false"]),
        "false" => here(&["true"]),
        "max" | "min" | "max_nan" | "min_nan" if t(i + 1) == "(" && before != "fn" && before != "." => {
            let other = if token.starts_with("max") {
                token.replace("max", "min")
            } else {
                token.replace("min", "max")
            };
            vec![(i, other)]
        }
        // A swizzle: another component, or two components exchanged.
        swizzle if before == "." && !swizzle.is_empty() && swizzle.chars().all(|c| "xyzw".contains(c)) => {
            let letters: Vec<char> = swizzle.chars().collect();
            let changed = match letters[..] {
                ['x'] => "y".to_string(),
                ['y'] => "x".to_string(),
                ['z'] => "y".to_string(),
                [_] => "z".to_string(),
                [a, b, ..] => format!("{b}{a}{}", letters[2..].iter().collect::<String>()),
                [] => return Vec::new(),
            };
            vec![(i, changed)]
        }
        field if before == "." && i > 1 && t(i - 2) == "p" && fields.len() > 1 => {
            let Some(at) = fields.iter().position(|known| known == field) else { return Vec::new() };
            vec![(i, fields[(at + 1) % fields.len()].clone())]
        }
        number if number.starts_with(|c: char| c.is_ascii_digit()) && before != "case" => {
            if let Some(digits) = number.strip_suffix(['u', 'i']) {
                let radix = if digits.starts_with("0x") { 16 } else { 10 };
                let parsed = u64::from_str_radix(digits.trim_start_matches("0x"), radix);
                let suffix = &number[number.len() - 1..];
                return parsed.map_or(Vec::new(), |n| vec![(i, format!("{}{suffix}", n + 1))]);
            }
            match number.parse::<f64>() {
                // An index or a count.
                Ok(n) if !number.contains(['.', 'e', 'x']) => vec![(i, format!("{}", n + 1.0))],
                Ok(0.0) => here(&["1.0"]),
                Ok(n) => vec![(i, format!("{:?}", 2.0 * n))],
                Err(_) => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str) -> Vec<String> {
        let shaders = BTreeMap::from([("a.wgsl".to_string(), text.to_string())]);
        mutants("a.wgsl", &shaders).into_iter().map(|mutant| mutant.is).collect()
    }

    #[test]
    fn each_kind_of_place_is_changed() {
        assert_eq!(changed("if (i < n) {"), ["if (i <= n) {", "if (i >= n) {"]);
        assert_eq!(changed("workgroupBarrier();"), [";"]);
        assert_eq!(
            changed("a = max(b, c) - 1u;"),
            ["a = min(b, c) - 1u;", "a = max(b, c) + 1u;", "a = max(b, c) - 2u;"]
        );
        assert_eq!(changed("a = v.x + v.yz;"), ["a = v.y + v.yz;", "a = v.x - v.yz;", "a = v.x + v.zy;"]);
        assert_eq!(changed("x = 0x1p-24f * -1.5e-3;"), ["x = 0x1p-24f * -0.003;"]);
        assert_eq!(changed("var<storage, read> a: array<vec4u, 6>; // a < b"), Vec::<String>::new());
        assert_eq!(changed("@group(0) @binding(1) var<uniform> p: Params;"), Vec::<String>::new());
    }

    #[test]
    fn a_seed_draws_the_same_mutants_again() {
        let text = "fn f(x: u32) -> u32 { return x + 1u; }\n".repeat(20);
        let shaders = BTreeMap::from([("a.wgsl".to_string(), text)]);
        let drawn = |seed| -> Vec<usize> {
            let all = mutants("a.wgsl", &shaders);
            assert!(all.len() > 20, "{} mutants", all.len());
            sample(all, 10, seed).iter().map(|mutant| mutant.line).collect()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(drawn(1).len(), 10);
        assert!(drawn(1).is_sorted(), "in the order of the file");
    }

    #[test]
    fn who_uses_what_is_shared() {
        let shaders = [
            ("a.wgsl", "#import shared/one.wgsl\nfn a() { f(); }"),
            ("b.wgsl", "#import shared/one.wgsl\nfn b() { g(); }"),
            ("shared/one.wgsl", "#import shared/two.wgsl\nfn f() { g(); }\n\nfn h() {\n    x\n}\n"),
            ("shared/two.wgsl", "const N = 1u;\n\nfn g() { N; }"),
            ("c.wgsl", "#import shared/entry.wgsl\nfn c() { OP(OTHER); }"),
            (
                "shared/entry.wgsl",
                "fn walk() {}\nfn op_add() {}\nfn other_add() {}\n\n@compute @workgroup_size(64)\nfn entry(x: u32) { walk(); }",
            ),
        ];
        let shaders = shaders.map(|(file, text)| (file.to_string(), text.to_string())).into();
        let users = users(&shaders);
        assert_eq!(users[&("shared/one.wgsl", "f")], BTreeSet::from(["a.wgsl"]));
        assert_eq!(users[&("shared/two.wgsl", "N")], BTreeSet::from(["a.wgsl", "b.wgsl"]));
        assert!(!users.contains_key(&("shared/one.wgsl", "h")));
        assert_eq!(users[&("shared/entry.wgsl", "walk")], BTreeSet::from(["c.wgsl"]));
        assert_eq!(users[&("shared/entry.wgsl", "op_add")], BTreeSet::from(["c.wgsl"]));
        assert!(!users.contains_key(&("shared/entry.wgsl", "other_add")));
    }

    #[test]
    fn a_parameter_is_mistaken_for_another() {
        let text = "struct Params { rows: u32, cols: u32 }\nif (i < p.rows) { return; }";
        assert!(changed(text).contains(&"if (i < p.cols) { return; }".to_string()));
    }
}
