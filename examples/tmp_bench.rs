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
    if "softmax".contains(&filter) {
        for (dims, axis) in [
            ([4096, 1024], -1),
            ([256, 32768], -1),
            ([65536, 64], -1),
            ([1024, 4096], 0),
            ([64, 65536], 0),
            ([1, 1 << 20], -1),
            ([1 << 20, 1], 0),
            ([64, 10], -1),
        ] {
            let x = rand(&dims);
            time(&format!("softmax {dims:?} {axis}"), &device, || x.softmax(axis).unwrap());
            let x = x.requires_grad().unwrap();
            let g = rand(&dims);
            time(&format!("both ways {dims:?} {axis}"), &device, || {
                x.softmax(axis).unwrap().backward_from(&g).unwrap().get(&x).unwrap().clone()
            });
        }
        let x = rand(&[8, 64, 4096]);
        time("softmax 8 64 4096 axis 1", &device, || x.softmax(1).unwrap());
        time("log_softmax 8 64 4096 axis 1", &device, || x.log_softmax(1).unwrap());
        time("log_softmax 8 64 4096 axis 2", &device, || x.log_softmax(2).unwrap());
    }
    if "cross".contains(&filter) {
        for dims in [[64usize, 10], [4096, 1024], [16, 50_000]] {
            let x = rand(&dims).requires_grad().unwrap();
            let ids: Vec<u32> = (0..dims[0]).map(|i| (i * 7 % dims[1]) as u32).collect();
            let t = Tensor::from_ids(&ids, [dims[0]], &device).unwrap();
            time(&format!("cross_entropy {dims:?}"), &device, || x.cross_entropy(&t).unwrap());
            time(&format!("both ways {dims:?}"), &device, || x.cross_entropy(&t).unwrap().backward().unwrap().get(&x).unwrap().clone());
        }
    }
}
