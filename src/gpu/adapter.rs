//! Listing adapters and choosing one by id.

use super::limits::Limits;
use crate::{Error, Result};
use std::sync::OnceLock;

/// What an adapter is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterKind {
    /// A graphics card or integrated GPU.
    Hardware,
    /// A software rasterizer: lavapipe, llvmpipe, SwiftShader, WARP.
    Software,
}

/// One adapter of this machine.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// The name to choose it by, `backend:name`: `vulkan:llvmpipe`, `metal:apple-m3`. Where two are alike,
    /// `#1`, `#2` … follow.
    pub id: String,
    /// The adapter's own name.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// Hardware or software.
    pub kind: AdapterKind,
    /// The least and the most invocations a subgroup may have; both 0 where there are no subgroups.
    pub subgroup_size: (u32, u32),
    /// Whether the time of a dispatch can be measured on the device.
    pub timestamps: bool,
    /// The most that it allows a kernel.
    pub limits: Limits,
}

/// An adapter that can be opened.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) report: AdapterReport,
    pub(super) adapter: wgpu::Adapter,
}

const INSTALL_HINT: &str = "install a Vulkan driver (software: `apt-get install mesa-vulkan-drivers`; for GL \
     `apt-get install libegl1 libgl1-mesa-dri`), or set GRISTMILL_DEVICE=cpu to run on the CPU twins";

pub(super) fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle()))
}

/// Every adapter of this machine, hardware first.
pub fn adapters() -> Vec<AdapterReport> {
    enumerate().into_iter().map(|found| found.report).collect()
}

fn enumerate() -> Vec<Found> {
    // Asked once: EGL refuses to be asked from two threads, or while one of its devices is at work.
    static FOUND: OnceLock<Vec<Found>> = OnceLock::new();
    FOUND.get_or_init(ask_drivers).clone()
}

fn ask_drivers() -> Vec<Found> {
    let mut found: Vec<_> = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()))
        .into_iter()
        .filter(|adapter| {
            adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
        })
        .map(|adapter| Found { report: report(&adapter), adapter })
        .collect();
    // Hardware before software, a discrete card before an integrated one, a native API before GL; stable, so the
    // driver's own order decides the rest.
    found.sort_by_key(|Found { report, adapter }| {
        let info = adapter.get_info();
        let integrated = info.device_type != wgpu::DeviceType::DiscreteGpu;
        (report.kind == AdapterKind::Software, integrated, info.backend == wgpu::Backend::Gl)
    });
    let ids: Vec<String> = found.iter().map(|found| found.report.id.clone()).collect();
    for (at, Found { report, .. }) in found.iter_mut().enumerate() {
        if ids.iter().filter(|id| **id == report.id).count() > 1 {
            let nth = ids[..=at].iter().filter(|id| **id == report.id).count();
            report.id = format!("{}#{nth}", report.id);
        }
    }
    found
}

fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let info = adapter.get_info();
    let kind = match info.device_type {
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        _ => AdapterKind::Hardware,
    };
    let has = |feature| adapter.features().contains(feature);
    AdapterReport {
        id: format!("{}:{}", backend_name(info.backend), slug(&info.name)),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kind,
        subgroup_size: match has(wgpu::Features::SUBGROUP) {
            true => (info.subgroup_min_size, info.subgroup_max_size),
            false => (0, 0),
        },
        timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
        limits: Limits::new(&adapter.limits()),
        name: info.name,
    }
}

fn backend_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "vulkan",
        wgpu::Backend::Metal => "metal",
        wgpu::Backend::Dx12 => "dx12",
        wgpu::Backend::Gl => "gl",
        wgpu::Backend::BrowserWebGpu => "webgpu",
        wgpu::Backend::Noop => "noop",
    }
}

/// `llvmpipe (LLVM 15.0.6, 256 bits)` -> `llvmpipe`; `SwiftShader Device (Subzero)` -> `swiftshader`.
fn slug(name: &str) -> String {
    let plain = name.split(['(', ',', '/']).next().unwrap_or(name).to_lowercase();
    let words: Vec<_> = plain.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.into_iter().filter(|&word| word != "device").collect::<Vec<_>>().join("-")
}

/// The adapter that `id` names: its whole id, or a part of it that no other shares.
///
/// # Errors
/// None, or more than one: the error lists the choices.
pub(crate) fn find(id: &str) -> Result<Found> {
    let wanted = id.to_lowercase();
    let mut found = enumerate();
    let choices = found.iter().map(|found| found.report.id.clone()).collect::<Vec<_>>().join(", ");
    let matching = |exact: bool| -> Vec<usize> {
        let fits = |id: &str| if exact { id == wanted } else { id.contains(&wanted) };
        (0..found.len()).filter(|&i| fits(&found[i].report.id)).collect()
    };
    let hits = Some(matching(true)).filter(|hits| !hits.is_empty()).unwrap_or_else(|| matching(false));
    match hits[..] {
        [one] => Ok(found.swap_remove(one)),
        [] if found.is_empty() => {
            Err(Error::Adapter { message: format!("no adapter `{id}`: none was found; {INSTALL_HINT}") })
        }
        [] => Err(Error::Adapter { message: format!("no device `{id}`; there are cpu, gpu, {choices}") }),
        _ => Err(Error::Adapter {
            message: format!("`{id}` is ambiguous; there are {choices}: give the whole id"),
        }),
    }
}

/// The best adapter: hardware where there is any.
///
/// # Errors
/// No adapter at all; the error tells what to install.
pub(crate) fn find_best() -> Result<Found> {
    let message = || format!("no GPU adapter was found; {INSTALL_HINT}");
    enumerate().into_iter().next().ok_or_else(|| Error::Adapter { message: message() })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_short_and_plain() {
        assert_eq!(super::slug("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe");
        assert_eq!(super::slug("SwiftShader Device (Subzero)"), "swiftshader");
        assert_eq!(super::slug("NVIDIA GeForce RTX 4090/PCIe/SSE2"), "nvidia-geforce-rtx-4090");
    }
}
