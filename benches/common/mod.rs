//! The harness of all benches. It runs each case on each device, checks its result once, lets criterion sample the
//! times, and prints one line per case with the roofline. BENCHMARKS.md explains the columns.
#![allow(dead_code, clippy::panic)] // each bench uses a part of this module; a failure ends the run and names the case

mod roofline;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use gristmill::gpu::AdapterKind;
use gristmill::{Device, Result, Tensor};
use roofline::Roofline;
use std::cell::OnceCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

const SAMPLES: usize = 10;
/// Half a unit in the last place of 1.0f32: the relative error of one rounded operation.
pub const EPS: f64 = (f32::EPSILON / 2.0) as f64;

/// The minimum work of an algorithm, whatever the kernel: the numerator of its rate.
#[derive(Clone, Copy)]
pub enum Work {
    /// Floating-point operations, for a compute-bound op.
    Flops(usize),
    /// Bytes read and written, each counted once, for a memory-bound op.
    Bytes(usize),
}

/// How a case is timed.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    /// Sum of the timestamps of the dispatches.
    Gpu,
    /// Wall clock, from the call until the device is idle.
    Wall,
}

type Timed = Box<dyn FnOnce() -> Result<Tensor>>;
type Check = Box<dyn Fn(&[f32])>;

/// Work to time, and a check of its result.
pub struct Case {
    prepare: Box<dyn FnMut() -> Result<Timed>>,
    check: Check,
    clock: Clock,
}

impl Case {
    /// Times `run`. `check` panics if the output is wrong.
    pub fn new(run: impl Fn() -> Result<Tensor> + 'static, check: impl Fn(&[f32]) + 'static) -> Case {
        let run = Rc::new(run);
        let prepare = move || {
            let run = run.clone();
            Ok(Box::new(move || run()) as Timed)
        };
        Case { prepare: Box::new(prepare), check: Box::new(check), clock: Clock::Gpu }
    }

    /// Times the gradient of `forward` with respect to `leaf`, given the gradient `grad` of the output. The forward
    /// pass is not timed.
    pub fn gradient(
        leaf: Tensor,
        grad: Tensor,
        forward: impl Fn(&Tensor) -> Result<Tensor> + 'static,
        check: impl Fn(&[f32]) + 'static,
    ) -> Case {
        let prepare = move || {
            let leaf = leaf.requires_grad()?;
            let (y, grad) = (forward(&leaf)?, grad.clone());
            let backward = move || {
                let gradients = y.backward_from(&grad)?;
                Ok(gradients.get(&leaf).expect("the leaf takes part").clone())
            };
            Ok(Box::new(backward) as Timed)
        };
        Case { prepare: Box::new(prepare), check: Box::new(check), clock: Clock::Gpu }
    }

    /// Counts the host's work too: uploads, recording, waiting.
    pub fn by_wall_clock(self) -> Case {
        Case { clock: Clock::Wall, ..self }
    }

    /// Makes the first call and checks its result. Returns its time in seconds, including the compilation of kernels,
    /// and the number of kernels it ran.
    fn first(&mut self, device: &Device) -> Result<(f64, u64)> {
        if !device.is_gpu() {
            self.clock = Clock::Wall;
        }
        // A reused buffer might still hold the right answer of another kernel.
        device.trim();
        let timed = (self.prepare)()?;
        device.synchronize()?;
        let before = device.counts();
        let start = Instant::now();
        let y = timed()?;
        device.synchronize()?;
        let seconds = start.elapsed().as_secs_f64();
        let after = device.counts();
        (self.check)(&y.to_vec()?);
        Ok((seconds, after.kernels - before.kernels + after.cpu_twins - before.cpu_twins))
    }

    /// Runs once; returns seconds.
    fn time(&mut self, device: &Device) -> Result<f64> {
        let mut timed = (self.prepare)()?;
        if let (Device::Gpu(gpu), Clock::Gpu) = (device, self.clock) {
            let (y, profile) = gpu.profile(timed)?;
            black_box(y);
            if let Some(nanoseconds) = profile.total() {
                return Ok(nanoseconds * 1e-9);
            }
            self.clock = Clock::Wall; // the timestamps of this adapter are unreliable
            timed = (self.prepare)()?;
        }
        device.synchronize()?;
        let start = Instant::now();
        let y = timed()?;
        device.synchronize()?;
        let seconds = start.elapsed().as_secs_f64();
        black_box(y);
        Ok(seconds)
    }
}

/// The benches of a family of kernels on one device.
pub struct Bench<'c> {
    pub device: Device,
    group: BenchmarkGroup<'c, WallTime>,
    roofline: OnceCell<Roofline>,
    rows: Vec<Row>,
}

/// Runs `cases` on the device that `GRISTMILL_DEVICE` names, or on the CPU twins and the best GPU.
pub fn run(family: &str, cases: impl Fn(&mut Bench) -> Result<()>) -> Result<()> {
    let devices = match std::env::var("GRISTMILL_DEVICE") {
        Ok(name) => vec![Device::open(&name)?],
        Err(_) => [Device::cpu()].into_iter().chain(Device::gpu()).collect(),
    };
    // The command line overrides the durations and the number of resamples, but not the settings of the group.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .nresamples(2000)
        .without_plots()
        .configure_from_args();
    for device in devices {
        let mut group = criterion.benchmark_group(format!("{family} {}", device.id()));
        group.sample_size(SAMPLES).sampling_mode(SamplingMode::Flat);
        let mut bench = Bench { device, group, roofline: OnceCell::new(), rows: Vec::new() };
        cases(&mut bench)?;
        bench.finish(family)?;
    }
    Ok(())
}

impl Bench<'_> {
    /// Whether the device is a software rasterizer. The large cases then skip kernels made for hardware, which take
    /// seconds there.
    pub fn is_software(&self) -> bool {
        matches!(&self.device, Device::Gpu(gpu) if gpu.adapter().kind == AdapterKind::Software)
    }

    /// Whether the kernels with subgroup broadcasts run on the device.
    pub fn has_small_subgroups(&self) -> bool {
        matches!(&self.device, Device::Gpu(gpu) if [(4, 4), (8, 8)].contains(&gpu.adapter().subgroup_size))
    }

    /// Runs one case, unless the command line filters it out. `setup` creates its inputs on the device.
    pub fn case(&mut self, name: &str, work: Work, setup: impl Fn(&Device) -> Result<Case>) {
        let (device, roofline) = (&self.device, &self.roofline);
        let fail = |error| -> ! { panic!("{name} on {}: {error}", device.id()) };
        let mut prepared: Option<(Case, (f64, u64))> = None;
        let mut samples: Vec<Vec<f64>> = Vec::new();
        self.group.throughput(match work {
            Work::Flops(n) => Throughput::Elements(n as u64),
            Work::Bytes(n) => Throughput::BytesDecimal(n as u64),
        });
        self.group.bench_function(name, |bencher| {
            let (case, _) = prepared.get_or_insert_with(|| {
                let ready = || {
                    if roofline.get().is_none() {
                        let _ = roofline.set(Roofline::measure(device)?);
                    }
                    let mut case = setup(device)?;
                    let first = case.first(device)?;
                    Ok((case, first))
                };
                ready().unwrap_or_else(|error| fail(error))
            });
            bencher.iter_custom(|iterations| {
                let clock = case.clock;
                let times = (0..iterations).map(|_| case.time(device)).collect::<Result<Vec<f64>>>();
                let times = times.unwrap_or_else(|error| fail(error));
                let sum = Duration::from_secs_f64(times.iter().sum());
                if case.clock != clock {
                    samples.clear(); // samples of two clocks are not comparable
                } else {
                    samples.push(times);
                }
                sum
            });
        });
        let Some((case, first)) = prepared else { return };
        // The samples before criterion's own are its warm-up.
        let mut times = samples.split_off(samples.len().saturating_sub(SAMPLES)).concat();
        if times.is_empty() {
            return;
        }
        times.sort_by(f64::total_cmp);
        self.rows.push(Row { name: name.to_string(), work, times, first, clock: case.clock });
    }

    /// Prints the table. Measures the roofline once more, since the machine may have been busy the first time.
    fn finish(self, family: &str) -> Result<()> {
        self.group.finish();
        let Some(before) = self.roofline.get() else { return Ok(()) };
        let roofline = before.max(Roofline::measure(&self.device)?);
        println!("\n### {family} on {}\n", self.device);
        println!(
            "gristmill {}, wgpu {}, {}, {} threads; in this run {:.1} GFLOP/s ({}) and {:.1} GB/s (copy of 64 MiB)\n",
            env!("CARGO_PKG_VERSION"),
            wgpu_version(),
            processor(),
            rayon::current_num_threads(),
            roofline.arithmetic * 1e-9,
            if self.device.is_gpu() { "FMA chains" } else { "matmul of 1024" },
            roofline.bandwidth * 1e-9,
        );
        println!("| case | median, ms | quartiles | rate | of roofline | kernels | first call, ms | clock |");
        println!("|---|--:|--:|--:|--:|--:|--:|---|");
        self.rows.iter().for_each(|row| println!("{}", row.line(roofline)));
        println!();
        Ok(())
    }
}

/// The results of a case.
struct Row {
    name: String,
    work: Work,
    /// Seconds, sorted.
    times: Vec<f64>,
    first: (f64, u64),
    clock: Clock,
}

impl Row {
    fn line(&self, roofline: Roofline) -> String {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|q| quantile(&self.times, q));
        let (rate, unit, peak) = match self.work {
            Work::Flops(n) => (n as f64 / median, "GFLOP/s", roofline.arithmetic),
            Work::Bytes(n) => (n as f64 / median, "GB/s", roofline.bandwidth),
        };
        format!(
            "| {} | {} | {} to {} | {} {unit} | {} % | {} | {} | {} |",
            self.name,
            digits(median * 1e3),
            digits(low * 1e3),
            digits(high * 1e3),
            digits(rate * 1e-9),
            share(rate / peak),
            self.first.1,
            digits(self.first.0 * 1e3),
            if self.clock == Clock::Gpu { "gpu" } else { "wall" },
        )
    }
}

/// Formats with three significant digits.
fn digits(x: f64) -> String {
    let whole = if x > 0.0 { x.log10().floor() as i32 + 1 } else { 1 };
    format!("{x:.*}", (3 - whole).clamp(0, 4) as usize)
}

/// Formats a ratio in percent, with a decimal if it is small.
fn share(ratio: f64) -> String {
    let percent = 100.0 * ratio;
    format!("{percent:.*}", usize::from(percent < 9.95))
}

/// A quantile of sorted values, by linear interpolation.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The wgpu version in Cargo.lock.
fn wgpu_version() -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let after = lock.split("name = \"wgpu\"\nversion = \"").nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or("of unknown version")
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or(std::env::consts::ARCH, |(_, name)| name).to_string()
}

/// Random numbers in -1..1, as a tensor and for the references.
pub fn random(shape: &[usize], seed: u64, device: &Device) -> Result<(Tensor, Rc<Vec<f64>>)> {
    let x = Tensor::uniform(shape, -1.0, 1.0, seed, device)?;
    let values = x.to_vec()?.into_iter().map(f64::from).collect();
    Ok((x, Rc::new(values)))
}

/// A check that compares elements spread over the whole output with `want(index)`, which returns a value in f64 and the
/// bound on its error.
pub fn sampled(want: impl Fn(usize) -> (f64, f64) + 'static) -> impl Fn(&[f32]) {
    const CHECKED: usize = 499;
    move |got| {
        let last = got.len() - 1;
        for at in (0..CHECKED).map(|n| last * n / (CHECKED - 1)) {
            let ((want, bound), got) = (want(at), f64::from(got[at]));
            assert!((got - want).abs() <= bound, "element {at} is {got}, should be {want} within {bound:e}");
        }
    }
}

/// A sum of products, and the bound on its error in f32 in any order: one rounding per term, and one more.
pub fn dot(terms: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (sum, magnitude, count) = terms.fold((0.0, 0.0, 1.0), |(sum, magnitude, count), (a, b)| {
        (sum + a * b, magnitude + (a * b).abs(), count + 1.0)
    });
    (sum, count * EPS * magnitude)
}
