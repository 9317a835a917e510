//! The known faults of drivers, in one table. Where a fault shows in a variant of a kernel, its entry turns that off for the
//! adapters that have it; the others name what every kernel does about theirs. `gristmill doctor` prints those that
//! apply.

use super::adapter::AdapterReport;

/// A known fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirk {
    /// A part of the id of the adapters that have it.
    pub adapter: &'static str,
    /// A part of their driver's name and version; empty for every driver.
    pub driver: &'static str,
    /// What goes wrong.
    pub fault: &'static str,
    /// The upstream issue, or the version that it was seen on.
    pub seen: &'static str,
    /// What is done about it.
    pub answer: Answer,
}

/// What is done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Everywhere, on adapters without the fault too: how.
    Always(&'static str),
    /// Where the fault is, do without.
    Without(Variant),
}

/// What a kernel may do or use, and can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Matrix products, convolutions and attention that share operands by subgroup broadcast.
    Subgroups,
    /// Matrix products that share tiles in workgroup memory.
    Tiles,
    /// Workgroup memory that the driver fills with zeros. Kernels write theirs before they read it.
    ZeroedMemory,
    /// Parameters in a uniform; without it they are read from a storage buffer.
    UniformParams,
}

const QUIRKS: &[Quirk] = &[
    Quirk {
        adapter: "llvmpipe",
        driver: "",
        fault: "an invocation's loops end without a word after 65,535 iterations, counted together",
        seen: "Mesa 22.3.6",
        answer: Answer::Always("long work is cut into slices and passes"),
    },
    Quirk {
        adapter: "llvmpipe",
        driver: "",
        fault: "more memory is promised than there is, and the process is killed when it is used",
        seen: "Mesa 22.3.6",
        answer: Answer::Always("a budget of three quarters of the machine's memory answers first"),
    },
    Quirk {
        adapter: "vulkan:llvmpipe",
        driver: "",
        fault: "a kernel with a branch that uniforms decide is compiled at every dispatch anew, and never freed",
        seen: "Mesa 22.3.6",
        answer: Answer::Without(Variant::UniformParams),
    },
    Quirk {
        adapter: "vulkan:llvmpipe",
        driver: "",
        fault: "x != x is false for NaN, max and clamp drop it, x - x is 0 for infinity",
        seen: "Mesa 22.3.6",
        answer: Answer::Always("NaN is told by its bits"),
    },
    Quirk {
        adapter: "swiftshader",
        driver: "",
        fault: "x != x is false for NaN, exp(NaN) is infinite, log(0) is -88 and log(-1) 0",
        seen: "the SwiftShader of Chromium 156",
        answer: Answer::Always("special values are told by their bits and carried by hand"),
    },
    Quirk {
        adapter: "metal:",
        driver: "",
        fault: "x != x is false for NaN",
        seen: "pygfx/wgpu-py#473, on an Apple M1",
        answer: Answer::Always("NaN is told by its bits"),
    },
    Quirk {
        adapter: "swiftshader",
        driver: "",
        fault: "tanh(x) is NaN for large x",
        seen: "the SwiftShader of Chromium 156; gpuweb/gpuweb#4458",
        answer: Answer::Always("its argument is clamped"),
    },
    Quirk {
        adapter: "metal:",
        driver: "",
        fault: "tanh(x) is NaN from 45 on",
        seen: "tracel-ai/burn#520, apache/tvm#16438",
        answer: Answer::Always("its argument is clamped"),
    },
    Quirk {
        adapter: "gl:",
        driver: "",
        fault: "wgpu's devices share a context, behind a lock that panics when it is held for six seconds",
        seen: "gfx-rs/wgpu#5299, #8692",
        answer: Answer::Always("one thread at a time uses wgpu's GL"),
    },
    Quirk {
        adapter: "gl:",
        driver: "",
        fault: "workgroup memory is zeroed word by word, in code that takes seconds to compile for a large tile",
        seen: "naga 30, Mesa 22.3.6",
        answer: Answer::Without(Variant::ZeroedMemory),
    },
    Quirk {
        adapter: "vulkan:",
        driver: "AMD proprietary driver",
        fault: "workgroup memory is still being zeroed while the kernel runs",
        seen: "gfx-rs/wgpu#4591, on a Radeon RX 5700 XT",
        answer: Answer::Without(Variant::ZeroedMemory),
    },
];

/// The faults of an adapter: those of the table, and of those that a test adds.
pub(super) fn of(report: &AdapterReport, added: &'static [Quirk]) -> Vec<&'static Quirk> {
    let has = |quirk: &&Quirk| report.id.contains(quirk.adapter) && report.driver.contains(quirk.driver);
    QUIRKS.iter().chain(added).filter(has).collect()
}

/// Whether an adapter with these faults may use a variant.
pub(super) fn allow(quirks: &[&Quirk], variant: Variant) -> bool {
    quirks.iter().all(|quirk| quirk.answer != Answer::Without(variant))
}
