//! Kernels that show where they read past the end of a guarded buffer. wgpu keeps them inside their buffers, and what they
//! find in the guard words, or where an adapter answers with zero, often changes no result: so it would go unseen.
//!
//! Looked at are buffers that are only read (the guard words tell of the others, and twice as much code would take lavapipe
//! minutes), declared as those of `shaders/` are, as arrays of words or of vectors of four, of whose last one a part may
//! lie past the end. Of an operand without elements kernels may look at where the first would be; where that is a
//! part of a longer buffer, it may count as out of bounds.

use std::collections::BTreeSet;

/// The last word but one of a guarded buffer. The last one is the number of words that it holds, added to `COUNT`. Both are
/// the bits of ordinary numbers, which no adapter changes when it loads them as such.
pub(super) const END: u32 = 0x4b1d_57a7;
pub(super) const COUNT: u32 = 0x3f80_0000;

/// What one entry point of a kernel needs, with each index into a buffer that is only read looked at: an invocation that has
/// gone past the end of what a guarded buffer holds changes, when it is done, a guard word of a buffer that the kernel writes.
pub(super) fn caught(source: &str, entry: &str) -> String {
    let source: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default().to_string() + "\n").collect();
    let (functions, globals): (Vec<&str>, Vec<&str>) =
        declarations(&source).into_iter().partition(|text| name_of(text).is_some());
    let functions = reached(&functions, entry);
    let used = |buffer: &Buffer| functions.iter().any(|text| buffer.is_used(text));
    let buffers = globals.iter().filter_map(|text| Buffer::declared(text, &globals)).filter(used);
    let (written, read): (Vec<Buffer>, Vec<Buffer>) = buffers.partition(|buffer| buffer.is_written);
    let Some(out) = written.first() else { return source };

    let checks = read.iter().map(Buffer::check);
    let functions = functions.iter().map(|text| {
        let text = checked(text, &read);
        if name_of(&text) == Some(entry) { told(&text, entry, out) } else { text }
    });
    let globals = globals.iter().map(|text| text.to_string());
    let seen = "\nvar<private> out_of_bounds: u32;\n".to_string();
    globals.chain([seen]).chain(checks).chain(functions).collect()
}

/// The entry point, and at its end what shows an access out of bounds, wherever the entry returned.
fn told(text: &str, entry: &str, out: &Buffer) -> String {
    let (attributes, rest) = text.split_once("fn ").unwrap_or_default();
    let (head, body) = rest.split_once('{').unwrap_or_default();
    let parameters =
        head.split_once('(').and_then(|(_, rest)| Some(rest.rsplit_once(')')?.0)).unwrap_or_default();
    let plain: String = parameters
        .split("@builtin(")
        .map(|part| part.split_once(')').map_or(part, |(_, rest)| rest))
        .collect();
    let names: Vec<&str> = plain.split(',').filter_map(|one| Some(one.split_once(':')?.0.trim())).collect();
    let names = names.join(", ");
    let changes = out.changes();
    format!(
        "\nfn {entry}_kernel({plain}) {{{body}{attributes}fn {entry}({parameters}) {{\n    {entry}_kernel({names});\n    \
         if (out_of_bounds > 0u) {{ {changes} }}\n}}\n"
    )
}

/// A storage buffer's declaration.
#[derive(Clone, Copy)]
struct Buffer<'a> {
    name: &'a str,
    is_written: bool,
    /// Whether its elements are vectors of four.
    is_wide: bool,
}

impl<'a> Buffer<'a> {
    /// Of `@group(0) @binding(0) var<storage, read> x: array<f32>;`; `None` of other elements.
    fn declared(text: &'a str, globals: &[&str]) -> Option<Buffer<'a>> {
        let (space, rest) = text.split_once("var<storage, ")?.1.split_once("> ")?;
        let (name, kind) = rest.split_once(": ")?;
        let element = kind.strip_prefix("array<")?.strip_suffix(">;")?;
        let of_four = element.strip_prefix("vec4<").and_then(|rest| rest.strip_suffix('>'));
        let element = of_four.unwrap_or(element);
        let alias = format!("alias {element} = ");
        let meant = globals.iter().find_map(|text| text.trim().strip_prefix(&*alias)?.strip_suffix(';'));
        let is_wide = match meant.unwrap_or(element) {
            "f32" | "u32" | "i32" => of_four.is_some(),
            "vec4f" | "vec4u" | "vec4i" => true,
            _ => return None,
        };
        Some(Buffer { name, is_written: space == "read_write", is_wide })
    }

    /// Whether a function means it by its name, and has none of its own like it.
    fn is_used(&self, function: &str) -> bool {
        let places = words(function).filter(|(_, word)| *word == self.name);
        let around: Vec<_> =
            places.map(|(at, word)| (&function[..at], &function[at + word.len()..])).collect();
        let own = |(before, after): &(&str, &str)| {
            before.ends_with("let ") || before.ends_with("var ") || after.starts_with(':')
        };
        let taken = |(before, after): &(&str, &str)| after.starts_with('[') || before.ends_with('&');
        around.iter().any(taken) && !around.iter().any(own)
    }

    /// The statement that changes its last word.
    fn changes(&self) -> String {
        let word = if self.is_wide { ".w" } else { "" };
        format!("{0}[arrayLength(&{0}) - 1u]{word} = 0;", self.name)
    }

    /// The function that looks at an index. It has no branch: SwiftShader would compile some kernels for minutes.
    fn check(&self) -> String {
        let name = self.name;
        let (end, vectors) = match self.is_wide {
            false => (format!("vec2u(bitcast<u32>({name}[last - 1u]), bitcast<u32>({name}[last]))"), ")"),
            true => (format!("bitcast<vec4u>({name}[last]).zw"), " + 3u) / 4u"),
        };
        format!(
            "fn in_{name}(asked: u32) -> u32 {{\n    let last = arrayLength(&{name}) - 1u;\n    let end = {end};\n    \
             out_of_bounds |= u32(end.x == {END}u) & u32(asked >= (end.y - {COUNT}u{vectors});\n    return asked;\n}}\n"
        )
    }
}

/// What stands at the top of a module.
fn declarations(source: &str) -> Vec<&str> {
    let (mut all, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in source.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == '}' || c == ';') {
            all.push(&source[from..=at]);
            from = at + 1;
        }
    }
    all
}

/// The words of a text, with where they start.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = move |at: usize| !text[..at].ends_with(inside);
    let end = move |at: usize| text[at..].find(|c| !inside(c)).map_or(text.len(), |length| at + length);
    text.match_indices(inside).filter(move |(at, _)| starts(*at)).map(move |(at, _)| (at, &text[at..end(at)]))
}

/// Of a function, its name.
fn name_of(text: &str) -> Option<&str> {
    let head = text.split('{').next().unwrap_or_default();
    words(head).skip_while(|(_, word)| *word != "fn").nth(1).map(|(_, word)| word)
}

/// An entry point, and the functions that it calls, in the order they stand in.
fn reached<'a>(functions: &[&'a str], entry: &str) -> Vec<&'a str> {
    let mut names = BTreeSet::from([entry]);
    loop {
        let is_known = |text: &&str| name_of(text).is_some_and(|name| names.contains(name));
        let reached: Vec<&str> = functions.iter().copied().filter(is_known).collect();
        let before = names.len();
        names.extend(reached.iter().flat_map(|text| words(text)).map(|(_, word)| word));
        if names.len() == before {
            return reached;
        }
    }
}

/// A function with `x[at]` as `x[in_x(at)]`, where x is one of these buffers.
fn checked(function: &str, buffers: &[Buffer]) -> String {
    let buffers = buffers.iter().filter(|buffer| buffer.is_used(function));
    indexed(function, &buffers.copied().collect::<Vec<_>>())
}

fn indexed(text: &str, buffers: &[Buffer]) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for (at, word) in words(text) {
        let index = at + word.len();
        let known = buffers.iter().any(|buffer| buffer.name == word);
        if at < from || !known || !text[index..].starts_with('[') {
            continue;
        }
        let length = enclosed(&text[index..]);
        let inner = indexed(&text[index + 1..index + length], buffers);
        // What asks for the buffer's length keeps to it, guard words and all.
        let keeps = inner.contains(&format!("arrayLength(&{word})"));
        let inner = if keeps { inner } else { format!("in_{word}(u32({inner}))") };
        out += &format!("{}[{inner}]", &text[from..index]);
        from = index + length + 1;
    }
    out + &text[from..]
}

/// Where the bracket closes that a text opens with.
fn enclosed(text: &str) -> usize {
    let mut depth = 0;
    let closes = |(_, c): &(usize, char)| {
        depth += i32::from(*c == '[') - i32::from(*c == ']');
        depth == 0
    };
    text.char_indices().find(closes).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::super::wgsl;
    use super::*;

    const KERNEL: &str = "
alias Word = vec4f;
@group(0) @binding(0) var<storage, read> x: array<f32>; // of many
@group(0) @binding(0) var<storage, read> x4: array<Word>;
@group(0) @binding(1) var<storage, read> at: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
fn twice(x: array<f32, 2>) -> f32 { return x[0] + x[1]; }
fn first() -> f32 { return x[min(1u, arrayLength(&x) - 1u)]; }
fn by(i: u32) -> f32 { return x[at[i] + 1u]; }
@compute @workgroup_size(1)
fn one(@builtin(workgroup_id) group: vec3u) { atomicMax(&status[0], 1u); y[at[0]] = by(2u) + first(); }
@compute @workgroup_size(1)
fn four() { y[0] = x4[1].x; }
";

    #[test]
    fn indices_into_what_is_only_read_are_looked_at() {
        let out = caught(KERNEL, "one");
        for text in [
            "x[in_x(u32(at[in_at(u32(i))] + 1u))]",
            "y[at[in_at(u32(0))]] = by(2u)",
            "&x) - 1u)]",
            "fn one(@builtin(workgroup_id) group: vec3u) {\n    one_kernel(group);",
            "fn one_kernel( group: vec3u) {",
            // y shows it, not the status words.
            "y[arrayLength(&y) - 1u] = 0;",
        ] {
            assert!(out.contains(text), "{text} is not in {out}");
        }
        // Only what the entry point reaches is there.
        assert!(!out.contains("fn four") && !out.contains("fn twice") && !out.contains("fn in_x4"), "{out}");
        let out = caught(KERNEL, "four");
        assert!(out.contains("x4[in_x4(u32(1))].x") && out.contains("u + 3u) / 4u"), "{out}");
    }

    /// In each variant of each kernel, in the form that worst_case devices run.
    #[test]
    fn every_index_of_every_kernel_is_looked_at() {
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        for kernel in crate::kernels() {
            for values in kernel.variants() {
                let name = format!("{} {values:?}", kernel.name());
                let out = caught(&wgsl::worst_case(&kernel.wgsl(&values).unwrap()), kernel.entry);
                let module =
                    naga::front::wgsl::parse_str(&out).unwrap_or_else(|error| panic!("{name}: {error}"));
                let checked = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
                checked.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                for (_, function) in module.functions.iter() {
                    all_are_looked_at(&name, &module, function);
                }
            }
        }
    }

    /// Of each buffer that is only read.
    fn all_are_looked_at(name: &str, module: &naga::Module, function: &naga::Function) {
        use naga::{AddressSpace, Expression, StorageAccess, TypeInner};
        let own = function.name.as_deref().unwrap_or_default();
        for (_, expression) in function.expressions.iter() {
            let (base, index) = match *expression {
                Expression::Access { base, index } => (base, Some(index)),
                Expression::AccessIndex { base, .. } => (base, None),
                _ => continue,
            };
            let Expression::GlobalVariable(global) = function.expressions[base] else { continue };
            let global = &module.global_variables[global];
            let is_array = matches!(module.types[global.ty].inner, TypeInner::Array { .. });
            if !is_array || global.space != (AddressSpace::Storage { access: StorageAccess::LOAD }) {
                continue;
            }
            let buffer = global.name.as_deref().unwrap_or_default();
            let looked_at = index.is_some_and(|index| match function.expressions[index] {
                Expression::CallResult(called) => {
                    module.functions[called].name == Some(format!("in_{buffer}"))
                }
                // The gradient in shared/quad.wgsl, up to where by its length it ends.
                Expression::Math { fun: naga::MathFunction::Min, .. } => own == "quad",
                _ => false,
            });
            assert!(looked_at || own.starts_with("in_"), "{name}: {own} indexes {buffer}");
        }
    }
}
