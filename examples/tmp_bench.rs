use gristmill::{Device, Tensor};
use std::time::Instant;
fn cpu_ms() -> f64 {
    let mut sum = 0.0;
    for t in std::fs::read_dir("/proc/self/task").unwrap() {
        if let Ok(x) = std::fs::read_to_string(t.unwrap().path().join("schedstat")) {
            sum += x.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6;
        }
    }
    sum
}
fn time(name: &str, device: &Device, mut f: impl FnMut() -> Tensor) {
    let mut best = Vec::new();
    let _ = f();
    device.synchronize().unwrap();
    let begin = Instant::now();
    let cpu = cpu_ms();
    while best.len() < 3 || (begin.elapsed().as_millis() < 500 && best.len() < 200) {
        let t = Instant::now();
        let y = f();
        device.synchronize().unwrap();
        best.push(t.elapsed().as_secs_f64() * 1e3);
        drop(y);
    }
    let cpu = (cpu_ms() - cpu) / best.len() as f64;
    best.sort_by(f64::total_cmp);
    println!(
        "{name:40} min {:8.3} median {:8.3} cpu/2 {:8.3} ms  ({} runs) on {}",
        best[0],
        best[best.len() / 2],
        cpu / 2.0,
        best.len(),
        device.id()
    );
}
fn main() {
    let device = Device::open(&std::env::var("GRISTMILL_DEVICE").unwrap_or("gpu".into())).unwrap();
    let filter = std::env::args().nth(1).unwrap_or_default();
    let rand = |dims: &[usize]| {
        let n: usize = dims.iter().product();
        let v: Vec<f32> = (0..n).map(|i| ((i * 2654435761usize) % 1000) as f32 / 125.0 - 4.0).collect();
        Tensor::from_slice(&v, dims, &device).unwrap()
    };
    let x = rand(&[1 << 22]);
    time("add 4M (reference)", &device, || x.add(&x).unwrap());
    time("neg 4M (reference)", &device, || x.neg().unwrap());
    if "reduce".contains(&filter) {
        for (dims, axes) in [
            (&[1usize << 22][..], &[0isize][..]),
            (&[1 << 22, 1], &[0]),
            (&[4096, 1024], &[0]),
            (&[4096, 1024], &[1]),
            (&[100_000, 40], &[0]),
            (&[40, 100_000], &[1]),
            (&[100_000, 40], &[1]),
            (&[4, 1 << 20], &[1]),
            (&[64, 32, 26, 26], &[0, 2, 3]),
            (&[64, 10], &[0]),
        ] {
            let x = rand(dims);
            time(&format!("sum {dims:?} {axes:?}"), &device, || x.sum(axes, false).unwrap());
        }
        let x = rand(&[1 << 22]);
        time("max 4M", &device, || x.max_all().unwrap());
    }
}
