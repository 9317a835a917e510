//! Summaries of models: a dry run of the forward pass, layer by layer.

use super::module::{Layer, Module, join};
use super::parameter::Parameter;
use crate::Result;
use crate::dry_run::{counted, dry_run};
use crate::error::{at_line, caller};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

/// A table of a model's layers, as [`summary`] gives: [`Display`](fmt::Display) prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The layers in the order of their calls.
    pub rows: Vec<Row>,
    /// The elements of all parameters. One that several layers share counts once.
    pub parameters: u64,
    /// The floating-point operations of the forward pass: see [`dry_run`].
    pub flops: u64,
}

/// One line of a [`Summary`]: a call of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The layer's path, such as `0.2`; empty for a model of one layer.
    pub path: String,
    /// The layer's description.
    pub layer: String,
    /// The shape of the output.
    pub output: Shape,
    /// The elements of its parameters that no row above counts.
    pub parameters: u64,
    /// The floating-point operations of the call.
    pub flops: u64,
}

/// A table of a model's layers, in the style of Keras, by a dry run for an input of this shape: no memory, no computing.
///
/// It lists output shapes, parameters and floating-point operations ([`dry_run`]). The layers of this crate have a row
/// each; what a model computes outside of them is in the last row.
///
/// ```
/// # use gristmill::{Activation, Device, nn::{Init, Linear, Relu, Sequential, summary}};
/// # let mut init = Init::new(1, &Device::cpu());
/// let model = Sequential::new().push(Linear::new(784, 10, &mut init)?).push(Relu);
/// let summary = summary(&model, [64, 784])?;
/// assert_eq!((summary.parameters, summary.flops), (7850, 64 * 10 * (2 * 784 + 1)));
/// assert_eq!(summary.rows[0].layer, "Linear 784 -> 10");
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// A shape that a layer does not accept; the error names the layer. A model that reads ids or has several inputs:
/// [`summary_with`] runs any forward pass.
#[track_caller]
pub fn summary(layer: &dyn Layer, input: impl AsRef<[usize]>) -> Result<Summary> {
    let shape = Shape::new(input)?;
    let line = caller();
    summary_with(layer, || at_line(line, || layer.forward(&Tensor::zeros(shape, &layer.device())?)))
}

/// As [`summary`], of the forward pass that `forward` makes: of a model with several inputs, or one that reads ids.
///
/// ```
/// # use gristmill::{Device, Tensor, nn::{Embedding, Init, Layer, summary_with}};
/// # let device = Device::cpu();
/// let words = Embedding::new(1000, 64, &mut Init::new(1, &device))?;
/// let ids = Tensor::from_ids(&[1, 2, 3], [1, 3], &device)?;
/// let summary = summary_with(&words, || words.forward(&ids))?;
/// assert_eq!((summary.rows[0].output, summary.parameters), (gristmill::Shape::new([1, 3, 64])?, 64_000));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// Those of `forward`.
#[track_caller]
pub fn summary_with(module: &dyn Module, forward: impl FnOnce() -> Result<Tensor>) -> Result<Summary> {
    let mut trace = Trace::default();
    trace.name("", module);
    let around = Guard(TRACE.replace(Some(trace)));
    let (output, flops) = dry_run(forward)?;
    let Trace { mut rows, counted, .. } = TRACE.take().unwrap_or_default();
    drop(around);
    let (own, mut left) = (module.parameters(), module.parameters());
    left.retain(|parameter| !counted.contains(&parameter.id()));
    let rest = Row {
        path: String::new(),
        layer: format!("{}, outside its layers", module.describe()),
        output: output.shape(),
        parameters: elements(&left),
        flops: rows.iter().fold(flops, |rest, row| rest.saturating_sub(row.flops)),
    };
    if rest.flops > 0 || rest.parameters > 0 {
        rows.push(rest);
    }
    Ok(Summary { rows, parameters: elements(&own), flops })
}

fn elements(parameters: &[Parameter]) -> u64 {
    parameters.iter().map(|parameter| parameter.numel() as u64).sum()
}

thread_local! {
    /// The summary that is being made.
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Puts back the trace around it, also after an error.
struct Guard(Option<Trace>);

impl Drop for Guard {
    fn drop(&mut self) {
        TRACE.set(self.0.take());
    }
}

#[derive(Default)]
struct Trace {
    /// The paths of a module. Modules without fields share an address: they are called in their order.
    paths: HashMap<(usize, &'static str), VecDeque<String>>,
    rows: Vec<Row>,
    /// The ids of the parameters in the rows.
    counted: HashSet<u64>,
    /// Whether a layer is running: those inside it have no rows.
    inside: bool,
}

impl Trace {
    /// Records the paths of a module and those below.
    fn name(&mut self, path: &str, module: &dyn Module) {
        self.paths.entry(module.identity()).or_default().push_back(path.to_string());
        for (name, child) in module.children() {
            self.name(&join(path, &name), child);
        }
    }

    /// The path of a module that is called.
    fn path(&mut self, module: &dyn Module) -> String {
        let Some(paths) = self.paths.get_mut(&module.identity()) else { return String::new() };
        paths.rotate_left(1);
        paths.back().cloned().unwrap_or_default()
    }
}

/// The forward pass `f` of a layer: in a summary, it becomes a row.
#[track_caller]
pub(super) fn traced(layer: &impl Module, f: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    traced_as(layer, f, |output| output)
}

/// As [`traced`], for a pass that gives more than its `output`.
#[track_caller]
pub(super) fn traced_as<T>(
    layer: &impl Module,
    f: impl FnOnce() -> Result<T>,
    output: impl FnOnce(&T) -> &Tensor,
) -> Result<T> {
    let line = caller();
    let f = || at_line(line, f);
    let enter = |trace: &mut Option<Trace>| match trace {
        Some(trace) if !trace.inside => {
            trace.inside = true;
            Some(counted())
        }
        _ => None,
    };
    let Some(before) = TRACE.with_borrow_mut(enter) else { return f() };
    let result = f();
    let shape = result.as_ref().ok().map(|result| output(result).shape());
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        trace.inside = false;
        let Some(output) = shape else { return };
        let path = trace.path(layer);
        let mut parameters = layer.parameters();
        parameters.retain(|parameter| trace.counted.insert(parameter.id()));
        trace.rows.push(Row {
            path,
            layer: layer.describe(),
            output,
            parameters: elements(&parameters),
            flops: counted() - before,
        });
    });
    result
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = vec![["", "Layer", "Output shape", "Parameters", "FLOPs"].map(String::from)];
        table.extend(self.rows.iter().map(|row| {
            let [parameters, flops] = [row.parameters, row.flops].map(grouped);
            [row.path.clone(), row.layer.clone(), row.output.to_string(), parameters, flops]
        }));
        let width =
            |column: usize| table.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(width);
        let line = "=".repeat(a + b + c + d + e + 8);
        for (at, [path, layer, output, parameters, flops]) in table.iter().enumerate() {
            writeln!(f, "{path:a$}  {layer:b$}  {output:c$}  {parameters:>d$}  {flops:>e$}")?;
            if at == 0 {
                writeln!(f, "{line}")?;
            }
        }
        writeln!(f, "{line}")?;
        let mib = self.parameters as f64 * 4.0 / f64::from(1 << 20);
        writeln!(f, "Total parameters: {} ({mib:.2} MiB)", grouped(self.parameters))?;
        writeln!(f, "Total FLOPs: {}", grouped(self.flops))
    }
}

/// With commas between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 693_962, 1_234_567].map(grouped).join(" "),
            "0 999 1,000 693,962 1,234,567"
        );
    }
}
