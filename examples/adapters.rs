//! Lists the GPU adapters of this machine, by the ids that `GRISTMILL_DEVICE` and `--device` take.
//!
//!     cargo run --example adapters
//!
//! With `--ids` only the ids, one a line.

fn main() {
    let adapters = gristmill::gpu::adapters();
    if std::env::args().any(|argument| argument == "--ids") {
        return adapters.iter().for_each(|adapter| println!("{}", adapter.id));
    }
    println!("cpu: the CPU twins");
    for adapter in adapters {
        let (least, most) = adapter.subgroup_size;
        let subgroups = match (least, most) {
            (0, _) => "none".to_string(),
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        };
        println!(
            "{}: {:?}, {}; driver {}; subgroups of {subgroups}",
            adapter.id, adapter.kind, adapter.name, adapter.driver
        );
    }
}
