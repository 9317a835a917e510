//! Every kernel with every set of constants that Rust can request: naga validates it and translates it to the four
//! languages that drivers read, the Khronos validators accept naga's output, and the kernel keeps the crate's rules for
//! bindings and sizes.

use gristmill::gpu::Kernel;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy, Layouter};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, ShaderStage, StorageAccess, TypeInner};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One kernel with one set of constants, validated.
struct Built {
    /// Kernel and constants, for messages.
    name: String,
    kernel: &'static Kernel,
    module: Module,
    info: ModuleInfo,
    /// Index of the entry point in the module.
    entry: usize,
    /// Whether it uses subgroups.
    subgroups: bool,
}

impl Built {
    /// # Panics
    /// naga rejects the kernel; the message shows where.
    fn new(kernel: &'static Kernel, values: &[u32]) -> Built {
        let constants: Vec<_> = kernel
            .constants
            .iter()
            .zip(values)
            .map(|((name, _), &value)| format!("{name}={}", kernel.value_name(name, value)))
            .collect();
        let name = format!("{} [{}]", kernel.name(), constants.join(", "));
        let source = kernel.wgsl(values).unwrap_or_else(|error| panic!("{error}"));
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
        // No capabilities, so that kernels run on every WebGPU device; except kernels compiled for a subgroup size.
        let subgroups = kernel.constants.iter().any(|(name, _)| *name == "SUBGROUP");
        let capabilities = if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
        let is_entry =
            |point: &naga::EntryPoint| point.name == kernel.entry && point.stage == ShaderStage::Compute;
        let entry = module.entry_points.iter().position(is_entry);
        let entry = entry.unwrap_or_else(|| panic!("{name}: no compute entry point of that name"));
        Built { name, kernel, module, info, entry, subgroups }
    }

    /// The global variables that the entry point uses.
    fn globals(&self) -> impl Iterator<Item = &GlobalVariable> {
        let used = self.info.get_entry_point(self.entry);
        self.module.global_variables.iter().filter(|(at, _)| !used[*at].is_empty()).map(|(_, global)| global)
    }

    fn layouter(&self) -> Layouter {
        let mut layouter = Layouter::default();
        layouter.update(self.module.to_ctx()).unwrap();
        layouter
    }

    /// SPIR-V as wgpu requests it from naga for Vulkan. Subgroups need Vulkan 1.1.
    fn spirv(&self) -> Vec<u8> {
        let lang_version = if self.subgroups { (1, 3) } else { (1, 0) };
        let options =
            spv::Options { lang_version, bounds_check_policies: CHECKED, ..spv::Options::default() };
        let point = spv::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: self.kernel.entry.to_string(),
        };
        let words = spv::write_vec(&self.module, &self.info, &options, Some(&point))
            .unwrap_or_else(|error| panic!("{}: SPIR-V: {error}", self.name));
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn glsl(&self, version: glsl::Version) -> String {
        let options = glsl::Options { version, ..glsl::Options::default() };
        let point = glsl::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: self.kernel.entry.to_string(),
            multiview: None,
        };
        let mut out = String::new();
        glsl::Writer::new(
            &mut out,
            &self.module,
            &self.info,
            &options,
            &point,
            BoundsCheckPolicies::default(),
        )
        .and_then(|mut writer| writer.write())
        .unwrap_or_else(|error| panic!("{}: GLSL {version:?}: {error}", self.name));
        out
    }

    fn metal(&self) -> String {
        let options =
            msl::Options { lang_version: (2, 0), bounds_check_policies: CHECKED, ..msl::Options::default() };
        let point = msl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, self.kernel.entry.to_string())),
            ..msl::PipelineOptions::default()
        };
        msl::write_string(&self.module, &self.info, &options, &point)
            .unwrap_or_else(|error| panic!("{}: MSL: {error}", self.name))
            .0
    }

    fn hlsl(&self) -> String {
        let point = hlsl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, self.kernel.entry.to_string())),
        };
        let mut out = String::new();
        hlsl::Writer::new(&mut out, &hlsl::Options::default(), &point)
            .write(&self.module, &self.info, None)
            .unwrap_or_else(|error| panic!("{}: HLSL: {error}", self.name));
        out
    }
}

/// The bounds checks that wgpu requests.
const CHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Restrict,
    buffer: BoundsCheckPolicy::Restrict,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

/// Calls `check` for every kernel with every set of its constants.
fn every_variant(check: impl Fn(&Built) + Sync) {
    let variants: Vec<_> = gristmill::kernels()
        .into_iter()
        .flat_map(|kernel| kernel.variants().into_iter().map(move |values| (kernel, values)))
        .collect();
    assert!(!variants.is_empty());
    variants.par_iter().for_each(|(kernel, values)| check(&Built::new(kernel, values)));
}

#[test]
fn naga_writes_every_kernel_for_metal_and_direct3d() {
    every_variant(|built| {
        assert!(!built.metal().is_empty());
        assert!(!built.hlsl().is_empty());
    });
}

/// Whether a validator is installed. CI requires it; elsewhere a line reports that it is missing.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    let package = if tool == "spirv-val" { "spirv-tools" } else { "glslang-tools" };
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is not installed (Debian: {package})");
    if !found {
        // Not with eprintln!, which the test harness captures.
        let _ = writeln!(std::io::stderr(), "not checked: {tool} is not installed (Debian: {package})");
    }
    found
}

/// A directory that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("gristmill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    /// Writes a file named by its hash, so that equal outputs of different constants are checked once.
    fn keep(&self, content: &[u8], ending: &str) {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let path = self.0.join(format!("{:016x}.{ending}", hasher.finish()));
        std::fs::write(path, content).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(tool: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(tool).args(arguments).output().unwrap_or_else(|error| panic!("{tool}: {error}"))
}

#[test]
fn spirv_val_accepts_what_naga_writes_for_vulkan() {
    for (environment, subgroups) in [("vulkan1.0", false), ("vulkan1.1", true)] {
        let scratch = Scratch::new(environment);
        every_variant(|built| {
            if built.subgroups == subgroups {
                scratch.keep(&built.spirv(), "spv");
            }
        });
        if !has("spirv-val") {
            return;
        }
        scratch.files().par_iter().for_each(|path| {
            let output = run("spirv-val", ["--target-env".as_ref(), environment.as_ref(), path.as_os_str()]);
            if !output.status.success() {
                let culprit = culprit(path, Built::spirv);
                panic!("{culprit}: spirv-val: {}", String::from_utf8_lossy(&output.stderr));
            }
        });
    }
}

#[test]
fn glslang_accepts_what_naga_writes_for_gl() {
    for (name, version) in [("es", glsl::Version::new_gles(310)), ("desktop", glsl::Version::Desktop(450))] {
        let scratch = Scratch::new(&format!("glsl-{name}"));
        every_variant(|built| scratch.keep(built.glsl(version).as_bytes(), "comp"));
        if !has("glslangValidator") {
            return;
        }
        // One process checks many files, and names the ones that it rejects.
        scratch.files().par_chunks(32).for_each(|paths| {
            let output = run("glslangValidator", paths);
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stdout);
                let named = |path: &&PathBuf| {
                    text.lines()
                        .any(|line| line.starts_with("ERROR") && line.contains(&*path.to_string_lossy()))
                };
                let culprit = match paths.iter().find(named) {
                    Some(path) => culprit(path, |built| built.glsl(version).into_bytes()),
                    None => "a kernel".to_string(),
                };
                panic!("{culprit}: glslangValidator ({name}): {text}");
            }
        });
    }
}

/// The kernel whose output by `write` is the content of the file.
fn culprit(path: &Path, write: impl Fn(&Built) -> Vec<u8>) -> String {
    let content = std::fs::read(path).unwrap();
    gristmill::kernels()
        .into_iter()
        .flat_map(|kernel| kernel.variants().into_iter().map(move |values| Built::new(kernel, &values)))
        .find(|built| write(built) == content)
        .map_or_else(|| path.display().to_string(), |built| built.name)
}

#[test]
fn bindings_follow_the_rules() {
    every_variant(|built| {
        let Built { name, kernel, module, .. } = built;
        let params_at = (kernel.reads + kernel.writes) as u32;
        let mut seen = BTreeSet::new();
        for global in built.globals() {
            let Some(binding) = &global.binding else { continue };
            let at = binding.binding;
            assert_eq!(binding.group, 0, "{name}: {:?} is not in group 0", global.name);
            assert!(seen.insert(at), "{name}: binding {at} is declared twice");
            let storage = |access| AddressSpace::Storage { access };
            let wanted = match at as usize {
                read if read < kernel.reads => storage(StorageAccess::LOAD),
                _ if at < params_at => storage(StorageAccess::LOAD | StorageAccess::STORE),
                _ if at == params_at => AddressSpace::Uniform,
                _ => panic!("{name}: binding {at} is past the params"),
            };
            assert_eq!(global.space, wanted, "{name}: binding {at}, {:?}", global.name);
        }
        // A file may have several kernels, each of which uses only some of the bindings; all bindings must be declared.
        let declared: BTreeSet<u32> =
            module.global_variables.iter().filter_map(|(_, global)| Some(global.binding?.binding)).collect();
        let missing: Vec<u32> = (0..=params_at).filter(|at| !declared.contains(at)).collect();
        assert!(missing.is_empty(), "{name}: no bindings {missing:?}");
        assert!(seen.contains(&params_at), "{name}: does not read its params");
    });
}

#[test]
fn params_are_laid_out_alike_in_rust_and_wgsl() {
    every_variant(|built| {
        let Built { name, kernel, module, .. } = built;
        let params = built.globals().find(|global| global.space == AddressSpace::Uniform).unwrap();
        let TypeInner::Struct { members, span } = &module.types[params.ty].inner else {
            panic!("{name}: the params are not a struct");
        };
        assert_eq!(
            span.next_multiple_of(16) as usize,
            kernel.params.next_multiple_of(16),
            "{name}: bytes of params in WGSL and in Rust"
        );
        let field = |member: &naga::StructMember| member.name.clone().unwrap_or_default();
        let wgsl: Vec<_> = members.iter().map(|member| (field(member), member.offset as usize)).collect();
        let rust = kernel.fields.iter().filter(|(name, _)| *name != "pad");
        let rust: Vec<_> = rust.map(|(name, at)| (name.to_string(), *at)).collect();
        assert_eq!(wgsl, rust, "{name}: fields and their offsets in WGSL and in Rust");
    });
}

#[test]
fn workgroups_fit_every_webgpu_device() {
    every_variant(|built| {
        let name = &built.name;
        let size = built.module.entry_points[built.entry].workgroup_size;
        assert!(size.iter().product::<u32>() <= 256, "{name}: workgroups of {size:?}");
        assert!(size[0] <= 256 && size[1] <= 256 && size[2] <= 64, "{name}: workgroups of {size:?}");
        let layouter = built.layouter();
        let shared = built.globals().filter(|global| global.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|global| layouter[global.ty].size.next_multiple_of(16)).sum();
        assert!(bytes <= 16 << 10, "{name}: {bytes} bytes of workgroup memory");
    });
}

/// The text of every file under `shaders/`, by relative path.
fn files() -> BTreeMap<String, String> {
    fn visit(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
            if path.is_dir() {
                visit(&path, &format!("{name}/"), files);
            } else {
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders"), "", &mut files);
    files
}

#[test]
fn every_file_is_used_and_opens_with_what_it_computes() {
    let files = files();
    let mut used = BTreeSet::new();
    let mut open: Vec<String> = gristmill::kernels().iter().map(|kernel| kernel.file.to_string()).collect();
    while let Some(name) = open.pop() {
        let text = files.get(&name).unwrap_or_else(|| panic!("shaders/{name} is missing"));
        if used.insert(name) {
            let imports = text.lines().filter_map(|line| line.strip_prefix("#import "));
            open.extend(imports.map(|rest| rest.split("//").next().unwrap_or_default().trim().to_string()));
        }
    }
    // The page for readers is the only other file.
    for (name, text) in files.iter().filter(|(name, _)| *name != "README.md") {
        assert!(name.ends_with(".wgsl"), "shaders/{name} is no kernel file");
        assert!(text.starts_with("// "), "shaders/{name} does not open with a comment");
        assert!(used.contains(name), "shaders/{name} is used by no kernel");
    }
}

#[test]
fn every_entry_point_is_one_kernel() {
    let kernels = gristmill::kernels();
    let mut names = HashSet::new();
    for kernel in &kernels {
        assert!(names.insert(kernel.name()), "two kernels are named {}", kernel.name());
    }
    for kernel in kernels {
        let built = Built::new(kernel, &kernel.variants()[0]);
        for point in &built.module.entry_points {
            let name = format!("{}:{}", kernel.file, point.name);
            assert!(names.contains(&name), "{name} is no kernel of kernels()");
        }
    }
}
