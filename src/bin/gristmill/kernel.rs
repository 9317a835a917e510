//! `gristmill kernel`: the WGSL that a driver gets, assembled, and what naga makes of it.

use clap::{Args, ValueEnum};
use gristmill::gpu::Kernel;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use std::path::PathBuf;

#[derive(Args)]
pub struct Options {
    /// The kernel: the name of a file in `shaders`, such as `softmax`, or file and entry point, such as `matmul:tiled`.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Lists all kernels, with the functions that use each and the values of its constants.
    #[arg(long)]
    list: bool,
    /// A constant, such as `LANES=16` or `OP=silu`; the first value that it may take where not given.
    #[arg(long = "constant", value_name = "NAME=VALUE")]
    constants: Vec<String>,
    /// Another language than WGSL, as naga writes it for a driver.
    #[arg(long = "as", value_name = "LANGUAGE")]
    language: Option<Language>,
    /// Writes to this file; needed for SPIR-V, which is binary.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    /// Vulkan.
    Spirv,
    /// Metal.
    Msl,
    /// Direct3D 12.
    Hlsl,
    /// OpenGL ES 3.1.
    Glsl,
}

/// What to print.
pub fn run(options: &Options) -> Result<String, String> {
    let Some(name) = options.name.as_ref().filter(|_| !options.list) else { return Ok(list()) };
    let kernel = find(name)?;
    let values = values(kernel, &options.constants)?;
    let wgsl = kernel.wgsl(&values).map_err(|error| error.to_string())?;
    let translated = match options.language {
        None => wgsl.into_bytes(),
        Some(language) => translated(kernel, &wgsl, language)?,
    };
    match (&options.output, options.language) {
        (Some(path), _) => {
            gristmill::io::write_atomic(path, translated).map_err(|error| error.to_string())?;
            Ok(format!("{}: {}", kernel.name(), path.display()))
        }
        (None, Some(Language::Spirv)) => {
            Err("SPIR-V is binary: name a file for it with --output".to_string())
        }
        (None, _) => Ok(String::from_utf8_lossy(&translated).trim_end().to_string()),
    }
}

/// A kernel per line: its name, its constants, the functions that use it.
fn list() -> String {
    let line = |kernel: &&Kernel| {
        let constants = domains(kernel).replace(", ", ",").replace(": ", "=").replace("; ", " ");
        let used_by = kernel.source.lines().filter_map(|line| line.strip_prefix("// Used by: "));
        let used_by = used_by.collect::<Vec<_>>().join(", ");
        format!("{:<44} {}\n    {constants}", kernel.name().replace(".wgsl", ""), used_by)
            .trim_end()
            .to_string()
    };
    gristmill::kernels().iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A kernel's constants, each with the values that it may take.
fn domains(kernel: &Kernel) -> String {
    let domain = |(name, values): &(&str, &[u32])| {
        let values: Vec<_> = values.iter().map(|&value| kernel.value_name(name, value)).collect();
        format!("{name}: [{}]", values.join(", "))
    };
    kernel.constants.iter().map(domain).collect::<Vec<_>>().join("; ")
}

/// The kernel of that name, or of that file if it has only one.
fn find(name: &str) -> Result<&'static Kernel, String> {
    let wanted = name.replace(".wgsl", "");
    let (file, entry) = wanted.split_once(':').map_or((&*wanted, None), |(file, entry)| (file, Some(entry)));
    let of_file = |kernel: &&Kernel| kernel.file.strip_suffix(".wgsl") == Some(file);
    let of_file: Vec<_> = gristmill::kernels().into_iter().filter(of_file).collect();
    let of_entry: Vec<_> =
        of_file.iter().filter(|kernel| entry.is_none_or(|entry| kernel.entry == entry)).collect();
    let names =
        || of_file.iter().map(|kernel| format!("{file}:{}", kernel.entry)).collect::<Vec<_>>().join(", ");
    match (&of_file[..], &of_entry[..]) {
        ([], _) => Err(format!("no kernel {name}; `gristmill kernel --list` names all")),
        (_, [kernel]) => Ok(**kernel),
        (_, []) => Err(format!("no entry point of that name; there are: {}", names())),
        _ => Err(format!("{file} has several entry points; choose one of {}", names())),
    }
}

/// The values of a kernel's constants.
fn values(kernel: &Kernel, given: &[String]) -> Result<Vec<u32>, String> {
    let mut values: Vec<u32> = kernel.constants.iter().map(|(_, domain)| domain[0]).collect();
    for text in given {
        let found = text.split_once('=').and_then(|(name, text)| {
            let at = kernel.constants.iter().position(|(known, _)| *known == name)?;
            let mut values = kernel.constants[at].1.iter();
            Some((at, *values.find(|value| kernel.value_name(name, **value) == text)?))
        });
        let (at, value) =
            found.ok_or_else(|| format!("no constant {text}; there are: {}", domains(kernel)))?;
        values[at] = value;
    }
    Ok(values)
}

/// The kernel in another language, with the bounds checks that wgpu asks for.
fn translated(kernel: &Kernel, wgsl: &str, language: Language) -> Result<Vec<u8>, String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|error| error.emit_to_string(wgsl))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP)
        .validate(&module)
        .map_err(|error| error.emit_to_string(wgsl))?;
    let entry = kernel.entry.to_string();
    let written = match language {
        Language::Spirv => spirv(&module, &info, entry),
        Language::Msl => {
            let options =
                msl::Options { lang_version: (2, 0), bounds_check_policies: CHECKED, ..Default::default() };
            let entry_point = Some((ShaderStage::Compute, entry));
            let pipeline = msl::PipelineOptions { entry_point, ..Default::default() };
            msl::write_string(&module, &info, &options, &pipeline)
                .map(|(text, _)| text.into_bytes())
                .map_err(|error| error.to_string())
        }
        Language::Hlsl => {
            let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry)) };
            let mut out = String::new();
            hlsl::Writer::new(&mut out, &hlsl::Options::default(), &pipeline)
                .write(&module, &info, None)
                .map(drop)
                .map_err(|error| error.to_string())
                .map(|()| out.into_bytes())
        }
        Language::Glsl => {
            let options = glsl::Options {
                version: glsl::Version::Embedded { version: 310, is_webgl: false },
                ..Default::default()
            };
            let pipeline = glsl::PipelineOptions {
                shader_stage: ShaderStage::Compute,
                entry_point: entry,
                multiview: None,
            };
            let mut out = String::new();
            glsl::Writer::new(&mut out, &module, &info, &options, &pipeline, BoundsCheckPolicies::default())
                .and_then(|mut writer| writer.write().map(drop))
                .map_err(|error| error.to_string())
                .map(|()| out.into_bytes())
        }
    };
    written.map_err(|error| format!("{}: {error}", kernel.name()))
}

fn spirv(module: &Module, info: &ModuleInfo, entry_point: String) -> Result<Vec<u8>, String> {
    // Subgroups came with Vulkan 1.1.
    let options = spv::Options { lang_version: (1, 3), bounds_check_policies: CHECKED, ..Default::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point };
    let words = spv::write_vec(module, info, &options, Some(&pipeline)).map_err(|error| error.to_string())?;
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// The bounds checks that wgpu asks for.
const CHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Restrict,
    buffer: BoundsCheckPolicy::Restrict,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};
