//! Golden files: the ops of `tests/golden/ops.rs`, on the device under test and on the CPU twins, compared with results
//! and gradients of PyTorch and JAX.
//!
//! `tests/golden/make.py` writes the files and documents their contents, `tests/golden/cases.py` has the cases, and
//! `tests/golden/ops.rs` the calls and bounds. One test per case, as in `cargo test --test golden conv2d`. A case fails
//! if its op has no row in `ops.rs`, or if the row does not use one of its attributes.
//!
//! An element may be off by `EPS (roundings + terms) (|y| + condition)` and a floor. The condition, from the file, is
//! how far the element moves when every input changes by a relative unit; `terms`, the length of the longest tensor of
//! the case, is at least the length of any sum in it. So a sum of products has the usual bound `n EPS sum |a b|`. A
//! case has at most 400 elements, so that omitting one term changes a sum by about `1 / terms`, a hundred times the
//! bound.
//!
//! Cases of realistic size generate their inputs from seeds and are compared at sampled elements. Their file has
//! `terms`, and the results with one term omitted, which must not pass.

mod common;
#[path = "golden/ops.rs"]
mod ops;

use common::{Array, EPS, devices, unravel};
use gristmill::{DType, Device, Tensor};
use libtest_mimic::{Arguments, Failed, Trial};
use ops::{ROWS, Row};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// The error bound of an element; see the documentation of this file.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// Roundings per element, besides the additions of its sums.
    roundings: f64,
    /// The size of intermediate values that are added or cancel.
    size: f64,
    /// Whether the bound includes the condition of the element.
    conditioned: bool,
    /// Whether the bound of all elements uses the largest element and condition.
    whole: bool,
    /// The part of the error that does not depend on the values.
    floor: f64,
}

impl Bound {
    const EACH: Bound = Bound { roundings: 0.0, size: 0.0, conditioned: true, whole: false, floor: 0.0 };
    /// Bitwise equal.
    const EXACT: Bound = Bound { roundings: f64::NEG_INFINITY, ..Bound::EACH };

    /// The bound of each element of `want`.
    fn of(&self, want: &Golden, condition: &[f64], terms: usize) -> Vec<f64> {
        if self.roundings < 0.0 {
            return vec![0.0; want.values.len()];
        }
        // One more for the rounding of the values in the file.
        let roundings = EPS * (1.0 + self.roundings + terms as f64);
        let finite = |x: f64| if x.is_finite() { x.abs() } else { 0.0 };
        let scale = |at: usize| {
            let condition = if self.conditioned { finite(condition[at]) } else { 0.0 };
            self.size + finite(want.values[at]) + condition
        };
        let largest = (0..want.values.len()).map(scale).fold(0.0, f64::max);
        let scale = |at: usize| if self.whole { largest } else { scale(at) };
        // A subnormal result may be flushed to 0.
        let flushed = f64::from(f32::MIN_POSITIVE);
        (0..want.values.len()).map(|at| roundings * scale(at) + self.floor + flushed).collect()
    }
}

/// A tensor in a file.
#[derive(Debug, Clone)]
struct Golden {
    shape: Vec<usize>,
    dtype: DType,
    values: Vec<f64>,
}

impl Golden {
    fn to_tensor(&self, device: &Device) -> gristmill::Result<Tensor> {
        match self.dtype {
            DType::F32 => Ok(Array::new(self.shape.clone(), self.values.clone()).to_tensor(device)),
            DType::U32 => {
                let ids: Vec<u32> = self.values.iter().map(|&id| id as u32).collect();
                Tensor::from_ids(&ids, &self.shape, device)
            }
        }
    }
}

/// The keyword arguments of the oracle, and which of them the call has read.
struct Attrs {
    said: Value,
    read: Mutex<BTreeSet<&'static str>>,
}

impl Attrs {
    fn get(&self, name: &'static str) -> &Value {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        &self.said[name]
    }

    fn flag(&self, name: &'static str) -> bool {
        self.get(name).as_bool().unwrap_or(false)
    }

    fn float(&self, name: &'static str, default: f32) -> f32 {
        self.get(name).as_f64().map_or(default, |value| value as f32)
    }

    fn int(&self, name: &'static str, default: isize) -> isize {
        self.get(name).as_i64().map_or(default, |value| value as isize)
    }

    fn size(&self, name: &'static str, default: usize) -> usize {
        self.get(name).as_u64().map_or(default, |value| value as usize)
    }

    fn text(&self, name: &'static str, default: &'static str) -> &str {
        self.get(name).as_str().unwrap_or(default)
    }

    fn ints(&self, name: &'static str) -> Vec<isize> {
        self.get(name)
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_i64)
            .map(|n| n as isize)
            .collect()
    }

    fn pair(&self, name: &'static str, default: [usize; 2]) -> [usize; 2] {
        <[isize; 2]>::try_from(self.ints(name)).map_or(default, |pair| pair.map(|n| n as usize))
    }

    fn flag_or(&self, name: &'static str, default: bool) -> bool {
        self.get(name).as_bool().unwrap_or(default)
    }

    fn id(&self, name: &'static str) -> Option<u32> {
        self.get(name).as_u64().map(|id| id as u32)
    }

    /// An optional number.
    fn option(&self, name: &'static str) -> Option<f32> {
        self.get(name).as_f64().map(|value| value as f32)
    }

    /// Two optional sizes.
    fn reaches(&self, name: &'static str) -> [Option<usize>; 2] {
        let pair = self.get(name);
        [0, 1].map(|at| pair[at].as_u64().map(|n| n as usize))
    }

    fn sizes(&self, name: &'static str) -> Vec<usize> {
        self.ints(name).into_iter().map(|n| n as usize).collect()
    }

    fn pairs(&self, name: &'static str) -> Vec<(usize, usize)> {
        let pairs = self.get(name).as_array().into_iter().flatten();
        let size = |value: &Value| value.as_u64().map_or(0, |n| n as usize);
        pairs.map(|pair| (size(&pair[0]), size(&pair[1]))).collect()
    }

    /// A number stored as text because JSON does not allow it, such as an infinity.
    fn number(&self, name: &'static str) -> f32 {
        self.text(name, "").parse().unwrap_or(f32::NAN)
    }

    /// The arguments that no call has read.
    fn unread(&self) -> Vec<&String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.said
            .as_object()
            .into_iter()
            .flat_map(|said| said.keys())
            .filter(|key| !read.contains(&***key))
            .collect()
    }
}

/// A case: its op, attributes and named tensors.
struct Case {
    name: String,
    op: String,
    attrs: Attrs,
    tensors: BTreeMap<String, Golden>,
    long: Option<Long>,
}

/// Metadata of a case that is compared at sampled elements.
#[derive(serde::Deserialize)]
struct Long {
    /// The full shapes of all tensors.
    shapes: BTreeMap<String, Vec<usize>>,
    /// The seeds of the generated tensors.
    seeds: BTreeMap<String, u32>,
    /// The inputs whose elements are 0 or 1.
    bits: Vec<usize>,
    /// The length of the longest sum.
    terms: usize,
}

impl Long {
    /// The generated tensors, as `Hashed` in tests/golden/oracle.py makes them.
    fn drawn(&self) -> impl Iterator<Item = (String, Golden)> {
        self.seeds.iter().map(|(name, &seed)| {
            let shape = self.shapes[name].clone();
            let bits = self.bits.iter().any(|at| *name == format!("x{at}"));
            let value = |at: u32| match hash(at.wrapping_mul(0x9e37_79b9).wrapping_add(seed)) {
                h if bits => f64::from(h >> 31),
                h => f64::from(h >> 8) / f64::from(1 << 22) - 2.0,
            };
            let values = (0..shape.iter().product::<usize>() as u32).map(value).collect();
            (name.clone(), Golden { shape, dtype: DType::F32, values })
        })
    }
}

/// lowbias32 (C. Wellons, Hash Prospector, 2018).
fn hash(h: u32) -> u32 {
    let mix = |h: u32, (shift, factor): (u32, u32)| (h ^ (h >> shift)).wrapping_mul(factor);
    [(16, 0x7feb_352d), (15, 0x846c_a68b), (16, 1)].into_iter().fold(h, mix)
}

impl Case {
    /// The tensors `KIND0`, `KIND1`, ... with their numbers.
    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (usize, &'a Golden)> {
        let numbered = move |(name, golden): (&str, &'a Golden)| {
            Some((name.strip_prefix(kind)?.parse::<usize>().ok()?, golden))
        };
        self.tensors.iter().filter_map(move |(name, golden)| numbered((name, golden)))
    }

    /// Compares a result with the tensor `name`.
    fn compare(&self, name: &str, got: &Tensor, bound: Bound) -> Result<(), String> {
        let want = &self.tensors[name];
        let shape = self.long.as_ref().map_or(&want.shape, |long| &long.shapes[name]);
        if (got.shape().to_vec(), got.dtype()) != (shape.clone(), want.dtype) {
            return Err(format!(
                "is {:?} {}, should be {:?} {shape:?}",
                got.dtype(),
                got.shape(),
                want.dtype
            ));
        }
        let all: Vec<f64> = match want.dtype {
            DType::F32 => got.to_vec().map_err(|e| e.to_string())?.into_iter().map(f64::from).collect(),
            DType::U32 => got.to_ids().map_err(|e| e.to_string())?.into_iter().map(f64::from).collect(),
        };
        let places: Vec<usize> = match self.tensors.get(&format!("{name}@")) {
            Some(places) => places.values.iter().map(|&at| at as usize).collect(),
            None => (0..all.len()).collect(),
        };
        let values: Vec<f64> = places.iter().map(|&at| all[at]).collect();
        let condition =
            self.tensors.get(&format!("{name}~")).map_or(vec![0.0; values.len()], |c| c.values.clone());
        let longest = || self.tensors.values().map(|golden| golden.values.len()).max().unwrap_or(0);
        let terms = self.long.as_ref().map_or_else(longest, |long| long.terms);
        // For long sums the condition suffices: it is large compared with what cancels before they are added.
        let bound = Bound { whole: bound.whole && self.long.is_none(), ..bound };
        let bounds = bound.of(want, &condition, terms);
        let wrong = |values: &[f64]| {
            let near = |at: usize| (values[at] - want.values[at]).abs() <= bounds[at];
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            (0..values.len()).find(|&at| !(near(at) || same(values[at], want.values[at])))
        };
        if let Some(at) = wrong(&values) {
            let (index, want) = (unravel(places[at], shape), want.values[at]);
            return Err(format!("{index:?} is {}, should be {want} within {}", values[at], bounds[at]));
        }
        match self.tensors.get(&format!("{name}!")) {
            Some(fewer) if wrong(&fewer.values).is_none() => {
                Err("would pass with one term of its sums left out".to_string())
            }
            _ => Ok(()),
        }
    }

    fn check(&self, row: &Row, device: &Device) -> Result<(), String> {
        let Row(_, forward, backward, call) = row;
        let inputs = (0..self.all("x").count()).map(|at| {
            let x = self.tensors[&format!("x{at}")].to_tensor(device)?;
            if self.tensors.contains_key(&format!("dx{at}")) { x.requires_grad() } else { Ok(x) }
        });
        let inputs: Vec<Tensor> = inputs.collect::<gristmill::Result<_>>().map_err(|e| e.to_string())?;
        let outputs = call(&self.attrs, &inputs).map_err(|e| e.to_string())?;
        let unread = self.attrs.unread();
        if !unread.is_empty() {
            return Err(format!("the call in tests/golden/ops.rs does not heed {unread:?}"));
        }
        if outputs.len() != self.all("y").count() {
            return Err(format!("{} outputs, should be {}", outputs.len(), self.all("y").count()));
        }
        for (at, y) in outputs.iter().enumerate() {
            let name = format!("y{at}");
            self.compare(&name, y, self.activated(*forward, &name)).map_err(|e| format!("{name} {e}"))?;
        }
        if self.all("dx").next().is_none() {
            return Ok(());
        }
        let grads = self.backward(&outputs, device).map_err(|e| e.to_string())?;
        for (at, _) in self.all("dx") {
            let zeros = Tensor::zeros(inputs[at].shape(), device).map_err(|e| e.to_string())?;
            let name = format!("dx{at}");
            let bound = self.activated(*backward, &name);
            let got = grads.get(&inputs[at]).unwrap_or(&zeros);
            self.compare(&name, got, bound).map_err(|e| format!("{name} {e}"))?;
        }
        Ok(())
    }

    /// The gradients of the sum of `y · dy` over the outputs with a dy.
    fn backward(&self, outputs: &[Tensor], device: &Device) -> gristmill::Result<gristmill::Gradients> {
        let given: Vec<(usize, &Golden)> = self.all("dy").collect();
        if let [(at, dy)] = given[..] {
            return outputs[at].backward_from(&dy.to_tensor(device)?);
        }
        let sum = Tensor::scalar(0.0, device)?;
        let add = |sum: Tensor, (at, dy): (usize, &Golden)| {
            sum.add(&outputs[at].mul(&dy.to_tensor(device)?)?.sum_all()?)
        };
        given.into_iter().try_fold(sum, add)?.backward()
    }

    /// Adds the error of an activation: 14 roundings of 1 for tanh and twice that for its derivative, 24 for the
    /// sigmoid and its derivative, and in proportion for what is computed from them.
    fn activated(&self, bound: Bound, name: &str) -> Bound {
        let error = match self.attrs.text("activation", "none") {
            "tanh" => 28.0 * EPS,
            "sigmoid" => 24.0 * EPS,
            _ => return bound,
        };
        let largest = |name: &str| {
            let values = self.tensors.get(name).map_or(&[][..], |golden| &golden.values);
            values.iter().fold(1.0, |m: f64, v| m.max(v.abs()))
        };
        Bound { floor: bound.floor + error * largest(&format!("{name}~")), ..bound }
    }
}

/// The cases of a file.
fn cases(path: &PathBuf) -> Vec<Case> {
    let fail = |what: &str| -> ! { panic!("{}: {what}", path.display()) };
    let bytes = std::fs::read(path).unwrap_or_else(|error| fail(&error.to_string()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| fail(&error.to_string()));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap_or_else(|error| fail(&error.to_string()));
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (key, text) in &metadata {
        let Some(name) = key.strip_prefix("case ") else { continue };
        let mut said: Value = serde_json::from_str(text).unwrap_or_else(|error| fail(&error.to_string()));
        let op = said["op"].as_str().unwrap_or_else(|| fail("a case without an op")).to_string();
        let attrs = Attrs { said: said["attrs"].take(), read: Mutex::default() };
        let long: Option<Long> = said.get_mut("long").map(|long| {
            serde_json::from_value(long.take()).unwrap_or_else(|error| fail(&format!("{name}: {error}")))
        });
        let tensors = long.iter().flat_map(Long::drawn).collect();
        let shown = if long.is_some() { format!("{name} (long)") } else { name.to_string() };
        cases.insert(name.to_string(), Case { name: shown, op, attrs, tensors, long });
    }
    for (name, view) in file.tensors() {
        let words = view.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (dtype, values) = match view.dtype() {
            Dtype::F32 => (DType::F32, words.map(|word| f64::from(f32::from_bits(word))).collect()),
            Dtype::U32 => (DType::U32, words.map(f64::from).collect()),
            other => fail(&format!("{name} is {other:?}")),
        };
        let (case, part) = name.rsplit_once('/').unwrap_or_else(|| fail(&name));
        let case = cases.get_mut(case).unwrap_or_else(|| fail(&format!("{name} is of no case")));
        case.tensors.insert(part.to_string(), Golden { shape: view.shape().to_vec(), dtype, values });
    }
    cases.into_values().collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    files.sort();
    let cases: Vec<Arc<Case>> = files.iter().flat_map(cases).map(Arc::new).collect();

    let ops: BTreeSet<String> = cases.iter().map(|case| case.op.clone()).collect();
    // For `cargo xtask mutate`, as in tests/table.rs.
    let only = std::env::var("GRISTMILL_ROWS").unwrap_or_default();
    let fail_fast = std::env::var_os("GRISTMILL_FAIL_FAST").is_some();
    let wanted = |case: &Arc<Case>| only.is_empty() || only.split(',').any(|op| op == case.op);
    let first = std::env::var("GRISTMILL_FIRST").unwrap_or_default();
    let first: Vec<&str> = first.split('|').collect();
    let mut cases: Vec<Arc<Case>> = cases.into_iter().filter(wanted).collect();
    let place = |case: &Arc<Case>| first.iter().position(|&name| name == case.name).unwrap_or(first.len());
    cases.sort_by_key(|case| (place(case), case.long.is_some()));
    let mut trials: Vec<Trial> = cases.into_iter().map(|case| trial(case, fail_fast)).collect();
    trials.push(Trial::test("every row has a case", move || every_row_has_a_case(&ops)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Arc<Case>, fail_fast: bool) -> Trial {
    let name = case.name.clone();
    let run = move || {
        let row = ROWS.iter().find(|row| row.0 == case.op);
        let row =
            row.ok_or_else(|| Failed::from(format!("tests/golden/ops.rs has no row for {}", case.op)))?;
        for device in devices() {
            let failed = |what| format!("{} {:?} on {}: {what}", case.op, case.attrs.said, device.id());
            if let Err(failed) = case.check(row, &device).map_err(failed) {
                if fail_fast {
                    println!("failed row: {}\nfailed case: {}\n{failed}", case.op, case.name);
                    std::process::exit(101);
                }
                return Err(failed.into());
            }
        }
        Ok(())
    };
    Trial::test(name, run)
}

fn every_row_has_a_case(ops: &BTreeSet<String>) -> Result<(), Failed> {
    let idle: Vec<&str> = ROWS.iter().map(|row| row.0).filter(|&op| !ops.contains(op)).collect();
    if idle.is_empty() { Ok(()) } else { Err(format!("no file has a case of {idle:?}").into()) }
}
