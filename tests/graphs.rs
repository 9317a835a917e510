//! Random graphs: 5 to 20 ops of the table (`gristmill::proof`) over a few leaves, forward and backward, on the device
//! under test and on the CPU.
//!
//! Each op is a case of a row. Its inputs are its own leaves, or earlier results that views (slices, expansions,
//! concatenations, permutations) and `a x + b` bring to the shape and the range that the row draws. After the whole
//! graph has run, every result is compared with the row's reference at the inputs that the device really had. So every
//! bound is the row's own, however long the graph is, and by induction the results of the graph are right. The
//! gradients of the leaves are compared with the rows' gradient references, chained, which propagate the bounds. A
//! second run drops each result after its last use, so that buffers are reused; it must give the same bits. On a GPU,
//! the CPU's results for the same inputs must agree within both bounds.
//!
//! `GRISTMILL_GRAPHS` sets the number of graphs (by default four times the cases of a property), `GRISTMILL_GRAPH_SEED`
//! the seed of the first; with a seed alone, one graph runs. A failure prints its seed.

mod common;

use gristmill::proof::{Array, Bounded, Case, Gen, Input, Kind, Row, TINY, Values, ravel, rows, unravel};
use gristmill::{DType, Device, Result, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The source of a step's input.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// A leaf of the case; whether it requires a gradient.
    Leaf(bool),
    /// The result of an earlier step.
    Step(usize),
}

/// A call: an op, or a leaf, which is the identity of its input.
struct Step {
    name: String,
    case: Case,
    sources: Vec<Source>,
}

struct Graph {
    steps: Vec<Step>,
    /// The differentiable results that no op uses, and the constant weights of each in the sum that is differentiated.
    ends: Vec<(usize, Input)>,
}

/// Rows whose references hold only for the inputs that they draw: the sum of the two inputs has to be exact.
const OWN_INPUTS: [&str; 2] = ["add_layer_norm", "add_rms_norm"];

/// A graph under construction, with its results on the CPU.
struct Draft {
    graph: Graph,
    results: Vec<Tensor>,
    used: Vec<bool>,
}

impl Draft {
    fn push(&mut self, name: &str, case: Case, sources: Vec<Source>) -> Result<usize> {
        let step = Step { name: format!("{name} ({})", case.label), case, sources };
        let taken: Vec<&Tensor> = self.results.iter().collect();
        let result = step.run(&step.inputs(&taken, &Device::cpu())?)?;
        for source in &step.sources {
            if let Source::Step(at) = source {
                self.used[*at] = true;
            }
        }
        self.graph.steps.push(step);
        self.results.push(result);
        self.used.push(false);
        Ok(self.results.len() - 1)
    }

    /// The range of a result, if another op may take it: `None` for ids, empty results, and numbers that no affine map
    /// brings near 1.
    fn range(&self, at: usize) -> Option<(f64, f64)> {
        let result = &self.results[at];
        if result.dtype() != DType::F32 || result.numel() == 0 || result.numel() > 5000 {
            return None;
        }
        let values = result.to_vec().ok()?;
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        let fits = values.iter().all(|x| x.is_finite() && x.abs() < 1e6);
        fits.then_some((f64::from(low), f64::from(high)))
    }

    /// Adds a step that gives an earlier result the shape and the range of an input.
    fn fitted(&mut self, g: &mut Gen, input: &Input) -> Result<Option<usize>> {
        let candidates: Vec<usize> = (0..self.results.len()).filter(|&at| self.range(at).is_some()).collect();
        let wanted = &input.array;
        if candidates.is_empty() || wanted.numel() == 0 {
            return Ok(None);
        }
        // Prefers a recent result, so that graphs are deep.
        let recent = &candidates[candidates.len().saturating_sub(4)..];
        let at = if g.flag() { g.choose(recent) } else { g.choose(&candidates) };
        let at = self.push(
            "views",
            views(g, self.results[at].shape().to_vec(), &wanted.shape),
            vec![Source::Step(at)],
        )?;
        let Some((low, high)) = self.range(at) else { return Ok(None) };
        let values = wanted.values();
        let mut least = values.iter().copied().fold(f64::MAX, f64::min);
        let mut most = values.iter().copied().fold(f64::MIN, f64::max);
        if least == most {
            let off = if least == 0.0 { 0.1 } else { 0.1 * least.abs() };
            (least, most) = (least - off, most + off);
        }
        if least <= low && high <= most {
            return Ok(Some(at));
        }
        // Limits the slope, so that gradients do not grow from op to op.
        let slope = ((most - least) / (high - low)).min(4.0) as f32;
        let offset = (0.5 * (least + most) - 0.5 * (low + high) * f64::from(slope)) as f32;
        self.push("affine", affine(slope, offset, wanted.shape.clone()), vec![Source::Step(at)]).map(Some)
    }
}

/// `a x + b`.
fn affine(a: f32, b: f32, shape: Vec<usize>) -> Case {
    let none = Input { array: Array::zeros(shape), kind: Kind::Variable };
    let [slope, offset] = [a, b].map(f64::from);
    Case::new(
        format!("{a} x + {b}"),
        vec![none],
        move |t| t[0].mul_scalar(a)?.add_scalar(b),
        move |x| x[0].map(|x| x * slope + offset),
    )
    .gradient(move |_, dy| vec![Some(dy.map(|dy| dy * slope))])
}

/// Views that turn a tensor into one of another shape, by omitting or repeating elements.
fn views(g: &mut Gen, from: Vec<usize>, to: &[usize]) -> Case {
    let [count, wanted] = [&from[..], to].map(|shape| shape.iter().product::<usize>());
    let turned: Vec<usize> = to.iter().rev().copied().collect();
    let (turn, joined, flat_first) = (to.len() > 1 && g.flag(), g.flag(), g.flag());
    // Every `step`-th element of a range.
    let step = if wanted > 1 { g.range(1..=((count.max(2) - 1) / (wanted - 1)).clamp(1, 3)) } else { 1 };
    let start = g.below((count + 1).saturating_sub(1 + wanted.saturating_sub(1) * step).max(1));
    let repeats = wanted.div_ceil(count);
    let shape = to.to_vec();
    let picked: Vec<usize> = (0..wanted)
        .map(|at| {
            let at = if turn {
                let index: Vec<usize> = unravel(at, &shape).into_iter().rev().collect();
                ravel(&index, &turned)
            } else {
                at
            };
            if wanted <= count { start + at * step } else { at % count }
        })
        .collect();
    let label = format!("{from:?} to {to:?}, start {start}, step {step}, turn {turn}, joined {joined}");
    let (out, rank) = (to.to_vec(), to.len());
    let run = move |t: &[Tensor]| {
        let flat = if flat_first && t[0].rank() > 0 { t[0].flatten(0, -1)? } else { t[0].reshape([count])? };
        let flat = if wanted <= count {
            flat.slice_step(0, start..start + (wanted - 1) * step + 1, step)?
        } else if joined && repeats <= 8 {
            Tensor::cat(&vec![&flat; repeats], 0)?.slice(0, 0..wanted)?
        } else {
            flat.reshape([1, count])?
                .expand([repeats, count])?
                .reshape([repeats * count])?
                .slice(0, 0..wanted)?
        };
        if turn {
            flat.reshape(&turned)?.permute(&(0..rank).rev().collect::<Vec<_>>())
        } else {
            flat.reshape(&out)
        }
    };
    let none = Input { array: Array::zeros(from.clone()), kind: Kind::Variable };
    let back = picked.clone();
    Case::new(label, vec![none], run, move |x| Array {
        shape: shape.clone(),
        data: picked.iter().map(|&at| x[0].data[at]).collect(),
    })
    .gradient(move |_, dy| {
        let mut terms = vec![Vec::new(); count];
        back.iter().zip(&dy.data).for_each(|(&at, &dy)| terms[at].push(dy));
        vec![Some(Array { shape: from.clone(), data: terms.into_iter().map(Bounded::sum).collect() })]
    })
}

impl Step {
    /// The tensors to call the op with.
    fn inputs(&self, results: &[&Tensor], device: &Device) -> Result<Vec<Tensor>> {
        let of = |(input, source): (&Input, &Source)| match source {
            Source::Leaf(true) => input.to_tensor(device)?.requires_grad(),
            Source::Leaf(false) => input.to_tensor(device),
            // An op without a gradient reference gets detached inputs.
            Source::Step(at) if self.case.gradient.is_none() => Ok(results[*at].detach()),
            Source::Step(at) => Ok(results[*at].clone()),
        };
        self.case.inputs.iter().zip(&self.sources).map(of).collect()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Tensor> {
        (self.case.run)(inputs)
    }
}

/// The graph that `seed` determines.
fn draw(table: &[Row], seed: u64) -> Result<Graph> {
    let g = &mut Gen::new(seed, 0, Values::Ordinary);
    let graph = Graph { steps: Vec::new(), ends: Vec::new() };
    let mut draft = Draft { graph, results: Vec::new(), used: Vec::new() };
    for _ in 0..g.range(1..=4) {
        g.size = g.choose(&[24, 64, 200]);
        let shape: Vec<usize> = g.shape(4).iter().map(|&d| d.max(1)).collect();
        let leaf = g.values(&shape, -2.0, 2.0);
        let identity = Case::new(format!("{shape:?}"), vec![leaf], |t| Ok(t[0].clone()), |x| x[0].clone());
        let identity = identity.gradient(|_, dy| vec![Some(dy.clone())]);
        let wants = !g.one_in(5);
        draft.push("leaf", identity, vec![Source::Leaf(wants)])?;
    }
    for _ in 0..g.range(5..=20) {
        let row = g.choose(table);
        let case = row.case(g.bits(), g.choose(&[16, 24, 64, 200, 1000]), Values::Ordinary);
        let mut sources = Vec::new();
        for input in &case.inputs {
            let own = input.kind != Kind::Variable || OWN_INPUTS.contains(&row.name) || g.one_in(4);
            let fitted = if own { None } else { draft.fitted(g, input)? };
            let wants = input.kind == Kind::Variable && case.gradient.is_some() && !g.one_in(4);
            sources.push(fitted.map_or(Source::Leaf(wants), Source::Step));
        }
        draft.push(row.name, case, sources)?;
    }
    let Draft { mut graph, results, used } = draft;
    for (at, result) in results.iter().enumerate() {
        if result.is_differentiable() && !used[at] {
            graph.ends.push((at, g.constants(&result.shape(), -1.0, 1.0)));
        }
    }
    Ok(graph)
}

/// The results of a run: of each step, and the gradients of the leaves, by step and input.
struct Trace {
    results: Vec<Option<Tensor>>,
    gradients: Vec<((usize, usize), Tensor)>,
}

/// Runs a graph. Without `keep`, results are dropped after their last use, and the trace has only the ends.
fn run(graph: &Graph, device: &Device, keep: bool) -> Result<Trace> {
    let mut last_use = vec![0; graph.steps.len()];
    for (at, step) in graph.steps.iter().enumerate() {
        last_use[at] = last_use[at].max(at);
        for source in &step.sources {
            if let Source::Step(used) = source {
                last_use[*used] = at;
            }
        }
    }
    graph.ends.iter().for_each(|&(at, _)| last_use[at] = usize::MAX);
    let mut trace = Trace { results: Vec::new(), gradients: Vec::new() };
    let nothing = Tensor::zeros([], device)?;
    let mut leaves = Vec::new();
    for (at, step) in graph.steps.iter().enumerate() {
        let inputs = {
            let taken: Vec<&Tensor> =
                trace.results.iter().map(|result| result.as_ref().unwrap_or(&nothing)).collect();
            step.inputs(&taken, device)?
        };
        for (which, (input, source)) in inputs.iter().zip(&step.sources).enumerate() {
            if *source == Source::Leaf(true) {
                leaves.push(((at, which), input.clone()));
            }
        }
        trace.results.push(Some(step.run(&inputs)?));
        drop(inputs);
        for (result, &last) in trace.results.iter_mut().zip(&last_use) {
            if last <= at && !keep {
                *result = None;
            }
        }
    }
    let mut loss: Option<Tensor> = None;
    for (at, weights) in &graph.ends {
        let result = trace.results[*at].as_ref().unwrap_or(&nothing);
        let own = result.mul(&weights.to_tensor(device)?)?.sum_all()?;
        loss = Some(match loss {
            None => own,
            Some(others) => others.add(&own)?,
        });
    }
    if let Some(loss) = loss {
        let grads = loss.backward()?;
        for (place, leaf) in leaves {
            let grad = match grads.get(&leaf) {
                Ok(grad) => grad.clone(),
                Err(_) => Tensor::zeros(leaf.shape(), device)?,
            };
            trace.gradients.push((place, grad));
        }
    }
    Ok(trace)
}

/// The elements of tensors, as exact numbers; one read-back per element type.
fn elements(tensors: &[&Tensor]) -> Result<Vec<Array>> {
    let mut arrays: Vec<Array> = tensors.iter().map(|t| Array::zeros(t.shape().to_vec())).collect();
    for dtype in [DType::F32, DType::U32] {
        let own: Vec<usize> = (0..tensors.len()).filter(|&at| tensors[at].dtype() == dtype).collect();
        if own.is_empty() {
            continue;
        }
        let flat = own.iter().map(|&at| tensors[at].detach().reshape([tensors[at].numel()]));
        let flat = flat.collect::<Result<Vec<_>>>()?;
        let joined = Tensor::cat(&flat.iter().collect::<Vec<_>>(), 0)?;
        let values: Vec<f64> = match dtype {
            DType::F32 => joined.to_vec()?.into_iter().map(f64::from).collect(),
            DType::U32 => joined.to_ids()?.into_iter().map(f64::from).collect(),
        };
        let mut rest = &values[..];
        for at in own {
            let (mine, others) = rest.split_at(arrays[at].numel());
            arrays[at] = Array::exact(std::mem::take(&mut arrays[at].shape), mine);
            rest = others;
        }
    }
    Ok(arrays)
}

/// Elements compared, and those whose bound exceeds a thousandth of the largest element.
#[derive(Default, Debug)]
struct Count {
    all: usize,
    loose: usize,
}

/// Counts for results and gradients of graphs.
#[derive(Default, Debug)]
struct Counts {
    ops: usize,
    results: Count,
    gradients: Count,
}

/// Compares `got` with `want`.
fn compare(what: &str, got: &Array, want: &Array, count: &mut Count) -> std::result::Result<(), String> {
    if got.shape != want.shape {
        return Err(format!("{what} has shape {:?}, should have {:?}", got.shape, want.shape));
    }
    for (at, (got, want)) in got.data.iter().zip(&want.data).enumerate() {
        if !want.admits(got.value() as f32) {
            let (got, want, error) = (got.value(), want.value(), want.error());
            return Err(format!("{what}: element {at} is {got:e}, should be {want:e} within {error:e}"));
        }
    }
    let finite = want.data.iter().map(|x| x.value().abs()).filter(|x| x.is_finite());
    let largest = finite.fold(0.0, f64::max);
    count.all += want.numel();
    count.loose += want.data.iter().filter(|x| x.error() > (1e-3 * largest).max(TINY)).count();
    Ok(())
}

/// Runs a graph on a device and checks it.
fn judge(graph: &Graph, device: &Device, counts: &mut Counts) -> std::result::Result<(), String> {
    let said = |error: gristmill::Error| error.to_string();
    let trace = run(graph, device, true).map_err(said)?;
    let cpu = Device::cpu();
    let results: Vec<&Tensor> = trace.results.iter().flatten().collect();
    let results = elements(&results).map_err(said)?;
    let leaves: Vec<&Tensor> = trace.gradients.iter().map(|(_, gradient)| gradient).collect();
    let leaves = elements(&leaves).map_err(said)?;
    let mut inputs = Vec::new();
    let mut gradients: Vec<Vec<Array>> = vec![Vec::new(); graph.steps.len()];
    for (at, step) in graph.steps.iter().enumerate() {
        let own = step.case.inputs.iter().zip(&step.sources).map(|(input, source)| match source {
            Source::Leaf(_) => input.array.clone(),
            Source::Step(from) => results[*from].clone(),
        });
        let (own, got): (Vec<Array>, _) = (own.collect(), &results[at]);
        let want = (step.case.reference)(&own);
        let what = format!("step {at}, {}", step.name);
        compare(&what, got, &want, &mut counts.results)?;
        counts.ops += 1;
        if device.is_gpu() {
            let of = |(array, input): (&Array, &Input)| {
                Input { array: array.clone(), kind: input.kind }.to_tensor(&cpu)
            };
            let same = own.iter().zip(&step.case.inputs).map(of).collect::<Result<Vec<_>>>().map_err(said)?;
            let twin = elements(&[&step.run(&same).map_err(said)?]).map_err(said)?.remove(0);
            let both = |(want, twin): (&Bounded, &Bounded)| match want.error() {
                // As the nearest f32, as `compare` takes ids.
                0.0 => Bounded::exact(f64::from(twin.value() as f32)),
                error => Bounded::new(twin.value(), 2.0 * error),
            };
            let both = want.data.iter().zip(&twin.data).map(both);
            let both = Array { shape: twin.shape, data: both.collect() };
            compare(&format!("{what}, beside the CPU's"), got, &both, &mut Count::default())?;
        }
        inputs.push(own);
    }
    for (at, weights) in &graph.ends {
        gradients[*at].push(weights.array.clone());
    }
    for (at, step) in graph.steps.iter().enumerate().rev() {
        let Some(gradient) = step.case.gradient.as_ref().filter(|_| !gradients[at].is_empty()) else {
            continue;
        };
        let terms = std::mem::take(&mut gradients[at]);
        let sum = |at: usize| Bounded::sum(terms.iter().map(|term| term.data[at]));
        let dy = Array { shape: terms[0].shape.clone(), data: (0..terms[0].numel()).map(sum).collect() };
        for (which, (dx, source)) in gradient(&inputs[at], &dy).into_iter().zip(&step.sources).enumerate() {
            match (dx, source) {
                (Some(dx), Source::Step(from)) => gradients[*from].push(dx),
                (Some(dx), Source::Leaf(true)) => {
                    let found = trace.gradients.iter().position(|(place, _)| *place == (at, which));
                    let got = &leaves[found.ok_or("no gradient of a leaf")?];
                    let what = format!("gradient of input {which} of step {at}, {}", step.name);
                    compare(&what, got, &dx, &mut counts.gradients)?;
                }
                _ => {}
            }
        }
    }
    let again = run(graph, device, false).map_err(said)?;
    let ends = |trace: &Trace| -> Result<Vec<u32>> {
        let results = graph.ends.iter().filter_map(|(at, _)| trace.results[*at].as_ref());
        let all: Vec<&Tensor> = results.chain(trace.gradients.iter().map(|(_, gradient)| gradient)).collect();
        Ok(elements(&all)?.iter().flat_map(Array::values).map(|x| (x as f32).to_bits()).collect())
    };
    match ends(&trace).map_err(said)? == ends(&again).map_err(said)? {
        true => Ok(()),
        false => Err("a second run gives other bits".to_string()),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, should be a number")))
}

#[test]
fn random_graphs_agree_with_f64_forward_and_backward() {
    let first = number("GRISTMILL_GRAPH_SEED");
    let graphs = number("GRISTMILL_GRAPHS");
    let graphs = graphs.unwrap_or(if first.is_some() { 1 } else { 4 * u64::from(common::cases().cases) });
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + graphs;
    let table = rows();
    let mut failures = Vec::new();
    let mut all = Vec::new();
    // On a GPU every other graph runs with the kernels for hardware.
    let ways: Vec<Vec<Device>> = match &common::devices_and_hardware()[..] {
        [gpu, cpu, hardware] => vec![vec![gpu.clone(), hardware.clone()], vec![cpu.clone()]],
        devices => vec![devices.to_vec()],
    };
    for devices in ways {
        let (mut counts, start) = (Counts::default(), std::time::Instant::now());
        for seed in seeds.clone() {
            let device = &devices[seed as usize % devices.len()];
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let graph = draw(&table, seed).map_err(|error| error.to_string())?;
                judge(&graph, device, &mut counts)
            }));
            let failure = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(message)) => message,
                Err(_) => "a panic".to_string(),
            };
            println!("GRISTMILL_GRAPH_SEED={seed} on {}: {failure}", device.id());
            failures.push(seed);
        }
        println!("{}: {graphs} graphs in {:?}, {counts:?}", devices[0].id(), start.elapsed());
        all.push(counts);
    }
    assert!(failures.is_empty(), "{} of {graphs} graphs failed: seeds {failures:?}", failures.len());
    // A single graph may have any counts; of many, nearly all elements must be judged.
    for counts in all.iter().filter(|_| graphs >= 100) {
        let Counts { results, gradients, .. } = counts;
        assert!(results.loose * 20 <= results.all && gradients.loose * 20 <= gradients.all, "{counts:?}");
    }
}

/// A result or gradient that is off by 1% fails. Exceptions: zeros, gradients that nothing requires, and the few with a
/// wider bound.
#[test]
fn wrong_results_and_gradients_are_noticed() {
    let (table, device) = (rows(), Device::cpu());
    for wrong_gradient in [false, true] {
        let (mut tried, mut noticed) = (0, 0);
        for seed in 0..100 {
            let mut graph = draw(&table, seed).unwrap();
            let last = graph.ends.iter().rev().find(|(_, weights)| weights.array.numel() > 0);
            let Some(&(at, _)) = last else { continue };
            let step = &mut graph.steps[at];
            let right = std::mem::replace(&mut step.case.run, Box::new(|t| Ok(t[0].clone())));
            step.case.run = Box::new(move |t| {
                let y = right(t)?;
                let part = y.mul_scalar(0.01)?;
                if wrong_gradient { y.add(&part.sub(&part.detach())?) } else { y.add(&part) }
            });
            tried += 1;
            noticed += usize::from(judge(&graph, &device, &mut Counts::default()).is_err());
        }
        assert!(tried >= 80 && noticed * 10 >= tried * 7, "{noticed} of {tried}, gradient {wrong_gradient}");
    }
}
