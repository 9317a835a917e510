//! Each kernel's header names the public functions that dispatch it, in lines that grep finds: `// Used by: softmax, log_softmax`. Held
//! against what a profile of the table's rows shows. And words that have been replaced stay out of the sources.

mod common;

use common::*;
use gristmill::gpu::{AdapterKind, GpuOptions, Profile};
use gristmill::proof::{Kind, Row, Values, rows};
use gristmill::{Activation, Device, MatMulKernel, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The functions that a header names, and whether there are others.
struct Header {
    names: BTreeSet<String>,
    and_others: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn headers() -> BTreeMap<String, Header> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("shaders")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wgsl") {
            continue;
        }
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("// Used by: ")).collect();
        assert!(!lines.is_empty(), "{file} does not say by which functions it is used");
        // A phrase may go on in the next line.
        let header: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("//")).map(str::trim).collect();
        let says = ["memory bound", "compute bound", "bound by"];
        let bound = says.iter().any(|what| header.join(" ").to_lowercase().contains(what));
        assert!(bound, "{file} does not say what bounds it");
        let line = lines.join(", ");
        let and_others = line.contains("and others");
        let line = line.replace("and others", "").replace("(gradient)", "");
        let names = line.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
        all.insert(file, Header { names: names.collect(), and_others });
    }
    all
}

/// The files of the kernels that a case of a row dispatches, forward and backward.
fn dispatched(row: &Row, seed: u64, size: usize, device: &Device) -> BTreeSet<String> {
    let Device::Gpu(gpu) = device else { unreachable!() };
    let case = row.case(seed, size, Values::Ordinary);
    let leaf = |input: &gristmill::proof::Input| {
        let x = input.to_tensor(device)?;
        if input.kind == Kind::Variable { x.requires_grad() } else { Ok(x) }
    };
    let inputs = case.inputs.iter().map(leaf).collect::<Result<Vec<Tensor>, _>>().unwrap();
    // Made before, so that its kernel is not taken for one of the gradient.
    let ones = (case.run)(&inputs).and_then(|y| Tensor::ones(y.shape(), device)).unwrap();
    let (_, profile) = gpu
        .profile(|| {
            let y = (case.run)(&inputs)?;
            if y.is_differentiable() { y.backward_from(&ones).map(drop) } else { Ok(()) }
        })
        .unwrap();
    files(&profile)
}

/// Adds, for each file, the functions of the rows that dispatch it. Of no row are more cases run than it takes to see all that
/// the headers say of it.
fn observe(
    device: &Device,
    headers: &BTreeMap<String, Header>,
    seen: &mut BTreeMap<String, BTreeSet<String>>,
) {
    for row in rows() {
        let wanted: Vec<&String> = headers
            .iter()
            .filter(|(_, header)| row.covers.iter().any(|name| header.names.contains(*name)))
            .map(|(file, _)| file)
            .collect();
        for (seed, size) in (1..=9).zip([64, 1 << 12, 1 << 17].into_iter().cycle()) {
            let all_seen = wanted.iter().all(|file| {
                row.covers.iter().all(|name| {
                    seen.get(*file).is_some_and(|names| names.contains(*name))
                        || !headers[*file].names.contains(*name)
                })
            });
            if all_seen {
                break;
            }
            for file in dispatched(&row, seed, size, device) {
                seen.entry(file).or_default().extend(row.covers.iter().map(|name| name.to_string()));
            }
        }
    }
}

type Compute = fn(&Tensor) -> gristmill::Result<Tensor>;

/// Cases so long that the rows hardly draw them.
const LONG: &[(&str, Compute)] = &[
    ("matmul", |row| row.matmul(&row.t()?)),
    ("matmul_with", |row| row.matmul_with(&row.t()?, None, Activation::Relu, MatMulKernel::Auto)),
    ("einsum", |row| Tensor::einsum("ij,kj->ik", &[row, row])),
    ("layer_norm", |row| row.layer_norm(1, None, None, 1e-5)),
    ("rms_norm", |row| row.rms_norm(1, None, 1e-5)),
    ("add_layer_norm", |row| row.add_layer_norm(row, 1, None, None, 1e-5).map(|[y, _]| y)),
    ("sort", |row| row.sort(1, false).map(|(values, _)| values)),
    ("argsort", |row| row.argsort(1, false)),
    ("topk", |row| row.topk(5000, 1, true).map(|(values, _)| values)),
    ("add_rms_norm", |row| row.add_rms_norm(row, 1, None, 1e-5).map(|[y, _]| y)),
];

fn files(profile: &Profile) -> BTreeSet<String> {
    profile.timings.iter().map(|timing| timing.kernel.split(':').next().unwrap().to_string()).collect()
}

/// The functions that only make views.
const VIEWS: [&str; 13] = [
    "chunk",
    "expand",
    "flatten",
    "i",
    "permute",
    "reshape",
    "slice",
    "slice_step",
    "split",
    "squeeze",
    "t",
    "transpose",
    "unsqueeze",
];

#[test]
fn headers_name_the_functions_that_dispatch_their_kernels() {
    let headers = headers();
    let covered: BTreeSet<String> =
        rows().iter().flat_map(|row| row.covers).map(|name| name.to_string()).collect();
    // Every op is found by its name, but those that only make views.
    let named: BTreeSet<&String> = headers.values().flat_map(|header| &header.names).collect();
    let unnamed: Vec<_> = covered.iter().filter(|name| !named.contains(name)).collect();
    assert_eq!(unnamed, VIEWS, "no header names these");

    let (mut seen, id) = (BTreeMap::new(), device().id().to_string());
    for kind in [AdapterKind::Software, AdapterKind::Hardware] {
        let Some(device) = opened(&GpuOptions { tune_for: Some(kind), ..GpuOptions::default() }) else {
            return;
        };
        observe(&device, &headers, &mut seen);
        let Device::Gpu(gpu) = &device else { unreachable!() };
        let row = Tensor::ones([1, 1 << 17], &device).unwrap();
        for (name, op) in LONG {
            let (_, profile) = gpu.profile(|| op(&row)).unwrap();
            for file in files(&profile) {
                seen.entry(file).or_default().insert(name.to_string());
            }
        }
    }
    let mut wrong = Vec::new();
    for (file, header) in &headers {
        // An adapter without subgroups never gets the kernels for them; lavapipe gets every kernel.
        let Some(seen) =
            seen.get(file).cloned().or_else(|| id.starts_with("vulkan:llvmpipe").then(BTreeSet::new))
        else {
            continue;
        };
        for name in header.names.iter().filter(|name| covered.contains(*name) && !seen.contains(*name)) {
            wrong.push(format!("{file} is not dispatched by {name}, which it names"));
        }
        if !header.and_others {
            let missing: Vec<_> = seen.difference(&header.names).collect();
            if !missing.is_empty() {
                wrong.push(format!("{file} is also dispatched by {missing:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// More fragments than this would be more page turns than a reader of a kernel takes.
const MOST_IMPORTS: usize = 4;
/// The same for the kernels of attention, which compute two products and a softmax.
const MOST_IMPORTS_OF_ATTENTION: usize = 6;

#[test]
fn kernels_import_few_fragments() {
    for file in headers().into_keys() {
        let mut files = vec![file.clone()];
        let mut next = 0;
        while let Some(name) = files.get(next) {
            let text = std::fs::read_to_string(root().join("shaders").join(name)).unwrap();
            for import in text.lines().filter_map(|line| line.strip_prefix("#import ")) {
                if !files.iter().any(|known| known == import) {
                    files.push(import.to_string());
                }
            }
            next += 1;
        }
        let (imports, is_attention) = (&files[1..], file.starts_with("attention"));
        let most = if is_attention { MOST_IMPORTS_OF_ATTENTION } else { MOST_IMPORTS };
        assert!(imports.len() <= most, "{file} imports {imports:?}");
    }
}

/// Words that were replaced by the field's terms, and what stands for them.
const GONE: &[(&str, &str)] = &[
    ("standardise", "normalize"),
    ("normaliser", "online softmax"),
    ("adverse", "worst case"),
    ("rasteriser", "rasterizer"),
    ("strays", "out of bounds"),
    ("folded", "reduced; workgroup_index"),
    ("resample", "avg_pool_upsample"),
];

#[test]
fn words_that_have_gone_stay_gone() {
    fn visit(path: &Path, found: &mut Vec<String>) {
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| visit(&entry.unwrap().path(), found));
            return;
        }
        let known = path
            .extension()
            .is_some_and(|extension| ["rs", "wgsl", "md"].iter().any(|known| extension == *known));
        if !known || path.ends_with(file!()) {
            return;
        }
        for (number, line) in std::fs::read_to_string(path).unwrap().lines().enumerate() {
            let line = line.to_lowercase();
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
            for (word, instead) in GONE.iter().filter(|(word, _)| words.contains(word)) {
                found.push(format!("{}:{}: {word}, now {instead}", path.display(), number + 1));
            }
        }
    }
    let mut found = Vec::new();
    let places = ["src", "shaders", "tests", "benches", "examples", "README.md", "ARCHITECTURE.md"];
    places.map(PathBuf::from).iter().for_each(|place| visit(&root().join(place), &mut found));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
