use gristmill::{Device, Tensor};
fn main() {
    let device = Device::open("gpu").unwrap();
    let x = Tensor::from_slice(&vec![1.0; 640], [64, 10], &device).unwrap().requires_grad().unwrap();
    let g = Tensor::from_slice(&vec![1.0; 640], [64, 10], &device).unwrap();
    let t = Tensor::from_ids(&vec![1; 64], [64], &device).unwrap();
    let go = |what: &str, n: usize, f: &dyn Fn() -> Tensor| {
        let mut times = vec![];
        for _ in 0..n {
            let t = std::time::Instant::now();
            let y = f();
            device.synchronize().unwrap();
            drop(y);
            times.push(t.elapsed());
        }
        times.sort();
        println!("{what} {:?}", times[n / 2]);
    };
    go("neg", 200, &|| x.neg().unwrap());
    go("softmax", 200, &|| x.softmax(1).unwrap());
    go("softmax axis 0", 200, &|| x.softmax(0).unwrap());
    go("log_softmax", 200, &|| x.log_softmax(1).unwrap());
    go("softmax both", 200, &|| x.softmax(1).unwrap().backward_from(&g).unwrap().get(&x).unwrap().clone());
    go("log both", 200, &|| x.log_softmax(1).unwrap().backward_from(&g).unwrap().get(&x).unwrap().clone());
    go("cross", 200, &|| x.cross_entropy(&t).unwrap());
    go("cross both", 200, &|| x.cross_entropy(&t).unwrap().backward().unwrap().get(&x).unwrap().clone());
    go("sum", 200, &|| x.sum(&[1], false).unwrap());
    go("sum0", 200, &|| x.sum(&[0], false).unwrap());
    go("mean", 200, &|| x.mean_all().unwrap());
    go("max", 200, &|| x.max_all().unwrap());
    go("copy t", 200, &|| x.t().unwrap().copy().unwrap());
    go("neg t", 200, &|| x.t().unwrap().neg().unwrap());
    let b = Tensor::from_slice(&vec![1.0; 10], [10], &device).unwrap();
    go("add bias", 200, &|| x.add(&b).unwrap());
    go("matmul", 200, &|| x.matmul(&g.t().unwrap()).unwrap());
    go("matmul t", 200, &|| x.t().unwrap().matmul(&g).unwrap());
}
