//! Probes of an adapter's floating-point arithmetic. gristmill's kernels rely on none of it. The report shows kernel
//! authors what not to rely on, and explains differences from other programs.

use gristmill::gpu::{Kernel, Recorder};
use gristmill::op::{CpuOut, CpuView, GpuOut, GpuView, Meta, Op, apply};
use gristmill::{CpuDevice, Device, Error, Result, Shape, Tensor, params};
use std::sync::Arc;

params! {
    struct ProbeParams { iterations: u32, infinity: u32 }
}

static PROBE: Kernel =
    Kernel::new("probes.wgsl", "probe", include_str!("probes.wgsl")).buffers(1, 1).params::<ProbeParams>();

/// Iterations of the loops.
const ITERATIONS: u32 = 70_000;

/// The expected answer.
#[derive(Clone, Copy)]
enum Wanted {
    Is(f32),
    Nan,
    /// Both are right: the meaning of a result other than 0, and of 0.
    Either(&'static str, &'static str),
}

use Wanted::{Either, Is, Nan};

/// The questions, in the order of probes.wgsl, and the answers of IEEE 754.
const QUESTIONS: &[(&str, Wanted)] = &[
    ("x != x for NaN", Is(1.0)),
    ("NaN < 1", Is(0.0)),
    ("max(NaN, 1)", Nan),
    ("max(1, NaN)", Nan),
    ("clamp(NaN, 0, 1)", Nan),
    ("exp(NaN)", Nan),
    ("exp(200)", Is(f32::INFINITY)),
    ("exp(-200)", Is(0.0)),
    ("tanh(200)", Is(1.0)),
    ("log(0)", Is(f32::NEG_INFINITY)),
    ("log(-1)", Nan),
    ("sqrt(-1)", Nan),
    ("1 / 0", Is(f32::INFINITY)),
    ("0 / 0", Nan),
    ("inf - inf", Nan),
    ("0 * NaN", Nan),
    ("an infinity from its bits", Is(f32::INFINITY)),
    ("a loop of 70,000 iterations", Is(ITERATIONS as f32)),
    ("the same, nested", Is(ITERATIONS as f32)),
    ("a subnormal that is read", Either("kept", "flushed")),
    ("a subnormal that is computed", Either("kept", "flushed")),
    ("fma", Either("rounds once", "rounds twice")),
];

/// An adapter's answer to a question.
pub struct Answer {
    pub question: &'static str,
    pub found: String,
    /// The answer of IEEE 754, if the adapter's is different.
    pub wanted: Option<String>,
}

/// Runs all probes on an adapter.
///
/// # Errors
/// The device fails.
pub fn ask(device: &Device) -> Result<Vec<Answer>> {
    let subnormal = f32::MIN_POSITIVE / 4.0;
    let near_one = 1.0 + 1.0 / 4096.0;
    let (nan, inf, tiny) = (f32::NAN, f32::INFINITY, f32::MIN_POSITIVE);
    let operands = [nan, inf, 0.0, 1.0, -1.0, 200.0, 0.5, tiny, subnormal, near_one];
    let operands = Tensor::from_slice(&operands, [operands.len()], device)?;
    let values = apply(Questions, &[&operands])?.to_vec()?;
    Ok(QUESTIONS
        .iter()
        .zip(values)
        .map(|(&(question, wanted), value)| judge(question, wanted, value))
        .collect())
}

fn judge(question: &'static str, wanted: Wanted, value: f32) -> Answer {
    let (right, found, wanted) = match wanted {
        Is(wanted) => (value == wanted, value.to_string(), wanted.to_string()),
        Nan => (value.is_nan(), value.to_string(), "NaN".to_string()),
        Either(yes, no) => (true, if value == 0.0 { no } else { yes }.to_string(), String::new()),
    };
    Answer { question, found, wanted: (!right).then_some(wanted) }
}

/// The op that runs the probes.
struct Questions;

impl Op for Questions {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn infer(&self, _: &[Meta]) -> Result<Vec<Meta>> {
        Ok(vec![Meta::f32(Shape::new([QUESTIONS.len()])?)])
    }

    fn flops(&self, _: &[Meta], _: &[Meta]) -> u64 {
        0
    }

    fn cpu(&self, _: &Arc<CpuDevice>, _: &[CpuView], _: &mut [CpuOut]) -> Result<()> {
        Err(Error::Gpu { message: "probes are for GPUs".to_string() })
    }

    fn gpu(&self, rec: &mut Recorder, inputs: &[GpuView], outputs: &[GpuOut]) -> Result<()> {
        let params = ProbeParams { iterations: ITERATIONS, infinity: f32::INFINITY.to_bits() };
        rec.dispatch(&PROBE, &[], &[inputs[0].buffer, outputs[0].buffer], &params, QUESTIONS.len())
    }
}
