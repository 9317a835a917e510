//! Choosing a device and naming it.

use crate::Result;
use crate::cpu::{CpuDevice, host};
use crate::gpu::{self, AdapterKind, GpuDevice, GpuOptions};
use crate::pool::MemoryUse;
use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

/// Where tensors live and ops run: a GPU through the WGSL kernels, or the CPU through their rayon twins.
///
/// A cheap handle. Tensors of two devices do not mix, and neither do those of two GPU devices.
///
/// ```
/// # use gristmill::Device;
/// let device = Device::cpu();
/// assert!(!device.is_gpu());
/// assert_eq!(device.id(), "cpu");
/// assert!(device.same(&Device::open("cpu")?));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub enum Device {
    /// The CPU twins.
    Cpu(Arc<CpuDevice>),
    /// The WGSL kernels on one adapter.
    Gpu(Arc<GpuDevice>),
}

/// What a device has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// WGSL kernels dispatched; 0 on the CPU.
    pub kernels: u64,
    /// Batches of kernels submitted; 0 on the CPU.
    pub submissions: u64,
    /// CPU twins run; 0 on a GPU.
    pub cpu_twins: u64,
}

impl Device {
    /// The CPU. Where `GRISTMILL_MEMORY_BUDGET` is no size, the first tensor that is made there answers with the error.
    pub fn cpu() -> Device {
        Device::Cpu(host().clone())
    }

    /// A CPU device of its own, that refuses to hold more than `budget` bytes.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let device = Device::cpu_with_budget(1 << 20); // 1 MiB
    /// assert!(Tensor::zeros([1 << 16], &device).is_ok()); // 256 KiB
    /// assert!(Tensor::zeros([1 << 20], &device).is_err()); // 4 MiB
    /// ```
    pub fn cpu_with_budget(budget: u64) -> Device {
        Device::Cpu(Arc::new(CpuDevice::new(Ok(budget))))
    }

    /// The best GPU, hardware if there is any, else a software rasterizer.
    ///
    /// ```no_run
    /// # use gristmill::Device;
    /// let device = Device::gpu()?;
    /// assert!(device.is_gpu() && device.id() != "cpu");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No adapter (the error tells what to install), or it can't be opened.
    pub fn gpu() -> Result<Device> {
        shared(gpu::find_best()?)
    }

    /// What `GRISTMILL_DEVICE` names (see [`Device::open`]); without it a hardware GPU, else the CPU twins, which
    /// beat a software rasterizer. Says on one line of standard error when it passes over such an adapter.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let device = Device::best()?;
    /// let x = Tensor::ones([3], &device)?;
    /// assert_eq!(x.sum_all()?.item()?, 3.0); // wherever it ran
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// `GRISTMILL_DEVICE` names no device, or the device can't be opened.
    pub fn best() -> Result<Device> {
        if let Ok(name) = std::env::var("GRISTMILL_DEVICE") {
            return Device::open(&name);
        }
        match gpu::find_best() {
            Ok(found) if found.report.kind == AdapterKind::Hardware => shared(found),
            Ok(gpu::Found { report, .. }) => {
                static TOLD: Once = Once::new();
                TOLD.call_once(|| {
                    // Not by eprintln!, which panics where standard error is closed.
                    let _ = writeln!(
                        std::io::stderr(),
                        "gristmill: {} is a software rasterizer; running on the CPU twins, which are faster \
                         (GRISTMILL_DEVICE=gpu runs the kernels on it)",
                        report.id
                    );
                });
                Ok(Device::cpu())
            }
            Err(_) => Ok(Device::cpu()),
        }
    }

    /// The device of that name: `cpu`, `gpu`, or an adapter's id such as `vulkan:llvmpipe`, of which an
    /// unambiguous part is enough. Opening the same adapter again gives the same device, unless it was lost.
    ///
    /// ```
    /// # use gristmill::Device;
    /// let (device, again) = (Device::open("cpu")?, Device::open("cpu")?);
    /// assert!(device.same(&again) && device.same(&Device::cpu()));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such device, or several: the error lists the choices.
    pub fn open(name: &str) -> Result<Device> {
        match name {
            "cpu" => Ok(Device::cpu()),
            "gpu" => Device::gpu(),
            id => shared(gpu::find(id)?),
        }
    }

    /// [`Device::open`] where a name is given, else [`Device::best`]: what an option `--device` means.
    ///
    /// ```
    /// # use gristmill::Device;
    /// let option = Some("cpu"); // what follows `--device` on a command line
    /// assert_eq!(Device::open_or_best(option)?.id(), "cpu");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As theirs.
    pub fn open_or_best(name: Option<&str>) -> Result<Device> {
        name.map_or_else(Device::best, Device::open)
    }

    /// A GPU device of its own, with options; `name` as in [`Device::open`], `cpu` excepted.
    ///
    /// ```no_run
    /// # use gristmill::{Device, gpu::GpuOptions};
    /// let options = GpuOptions { memory_budget: Some(1 << 30), ..GpuOptions::default() };
    /// let device = Device::open_with("gpu", &options)?;
    /// assert!(!device.same(&Device::gpu()?)); // a device of its own
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_with(name: &str, options: &GpuOptions) -> Result<Device> {
        let found = if name == "gpu" { gpu::find_best()? } else { gpu::find(name)? };
        Ok(Device::Gpu(GpuDevice::open(found, options)?))
    }

    /// Its id, such as `cpu` or `vulkan:llvmpipe`.
    pub fn id(&self) -> &str {
        match self {
            Device::Cpu(_) => "cpu",
            Device::Gpu(gpu) => &gpu.adapter().id,
        }
    }

    /// Whether it runs WGSL kernels.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Device::Gpu(_))
    }

    /// The bytes held by its tensors and kept for reuse.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let device = Device::cpu_with_budget(1 << 20);
    /// let x = Tensor::zeros([1024], &device)?;
    /// assert_eq!(device.memory().in_use, 4096);
    /// drop(x);
    /// assert_eq!((device.memory().in_use, device.memory().cached), (0, 4096));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn memory(&self) -> MemoryUse {
        match self {
            Device::Cpu(cpu) => cpu.memory(),
            Device::Gpu(gpu) => gpu.memory(),
        }
    }

    /// Frees the memory kept for reuse.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// let device = Device::cpu_with_budget(1 << 20);
    /// drop(Tensor::zeros([1024], &device)?);
    /// assert_eq!(device.memory().cached, 4096);
    /// device.trim();
    /// assert_eq!(device.memory().cached, 0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn trim(&self) {
        match self {
            Device::Cpu(cpu) => cpu.trim(),
            Device::Gpu(gpu) => gpu.trim(),
        }
    }

    /// What it has done since it was opened.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// # let device = Device::cpu_with_budget(1 << 20);
    /// let x = Tensor::ones([3], &device)?;
    /// let before = device.counts().cpu_twins;
    /// x.square()?.exp()?;
    /// assert_eq!(device.counts().cpu_twins - before, 2);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn counts(&self) -> Counts {
        match self {
            Device::Cpu(cpu) => Counts { cpu_twins: cpu.ops_run(), ..Counts::default() },
            Device::Gpu(gpu) => {
                let counts = gpu.counts();
                Counts { kernels: counts.dispatches, submissions: counts.submissions, cpu_twins: 0 }
            }
        }
    }

    /// Waits until all work recorded so far is done; nothing to wait for on the CPU.
    ///
    /// ```
    /// # use gristmill::{Device, Tensor};
    /// # let device = Device::cpu();
    /// let start = std::time::Instant::now();
    /// let y = Tensor::ones([64, 64], &device)?.square()?;
    /// device.synchronize()?; // without it, the time would be that of recording
    /// let seconds = start.elapsed().as_secs_f64();
    /// assert!(seconds > 0.0 && y.max_all()?.item()? == 1.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device is lost, or a kernel failed since the last read-back.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu(_) => Ok(()),
            Device::Gpu(gpu) => gpu.synchronize(),
        }
    }

    /// Whether both are the same device.
    pub fn same(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Cpu(a), Device::Cpu(b)) => Arc::ptr_eq(a, b),
            (Device::Gpu(a), Device::Gpu(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu(_) => write!(f, "cpu ({} threads)", rayon::current_num_threads()),
            Device::Gpu(gpu) => {
                write!(f, "{} ({}, {})", gpu.adapter().id, gpu.adapter().name, gpu.adapter().driver)
            }
        }
    }
}

/// The open device of an adapter, if it is open and well; else a new one.
fn shared(found: gpu::Found) -> Result<Device> {
    static OPEN: Mutex<Option<HashMap<String, Weak<GpuDevice>>>> = Mutex::new(None);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    let id = found.report.id.clone();
    if let Some(gpu) = open.get(&id).and_then(Weak::upgrade).filter(|gpu| !gpu.is_lost()) {
        return Ok(Device::Gpu(gpu));
    }
    let gpu = GpuDevice::open(found, &GpuOptions::default())?;
    open.insert(id, Arc::downgrade(&gpu));
    Ok(Device::Gpu(gpu))
}
