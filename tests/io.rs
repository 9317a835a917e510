//! Files of tensors, parameters and checkpoints: written completely or not at all, read exactly or refused.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::*;
use gristmill::io::{self, Metadata};
use gristmill::nn::*;
use gristmill::optim::{Adam, Optimizer, load_checkpoint, save_checkpoint};
use gristmill::{Activation, Device, Shape, Tensor};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gristmill-io-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of the files in it.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn mlp(seed: u64, device: &Device) -> Sequential {
    let mut init = Init::new(seed, device);
    Sequential::new()
        .push(Linear::new(2, 8, &mut init).unwrap().with_activation(Activation::Tanh))
        .push(Linear::new(8, 1, &mut init).unwrap())
}

/// Values that an inexact reader or writer changes.
const SPECIAL: [f32; 8] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-45, f32::MIN_POSITIVE, f32::MAX, 0.1];

#[test]
fn files_keep_every_bit() {
    let dir = Dir::new();
    for device in devices() {
        let path = dir.file("a.safetensors");
        let wide = Tensor::from_slice(&SPECIAL, [2, 4], &device).unwrap();
        let tensors = [
            ("z".to_string(), wide.clone()),
            ("a \"quoted\" ü\n".to_string(), wide.t().unwrap()),
            ("sliced".to_string(), wide.slice(1, 1..3).unwrap()),
            ("scalar".to_string(), Tensor::scalar(2.5, &device).unwrap()),
            ("empty".to_string(), Tensor::zeros([3, 0], &device).unwrap()),
            ("ids".to_string(), Tensor::from_ids(&[0, 7, u32::MAX], [3], &device).unwrap()),
        ];
        let metadata = Metadata::from(
            [("seed", "42"), ("ü\\", "\"\n\u{1}"), ("", "")].map(|(k, v)| (k.into(), v.into())),
        );
        io::save(&path, &tensors, &metadata).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        io::save(&path, &tensors, &metadata).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same content gives the same bytes");
        assert_eq!(dir.names(), ["a.safetensors"]);

        for target in devices() {
            let (loaded, read) = io::load(&path, &target).unwrap();
            assert_eq!(read, metadata);
            assert_eq!(loaded.len(), tensors.len());
            for ((name, got), (wanted, tensor)) in loaded.iter().zip(&tensors) {
                assert_eq!((name, got.shape(), got.dtype()), (wanted, tensor.shape(), tensor.dtype()));
                assert!(got.device().same(&target));
                if name == "ids" {
                    assert_eq!(got.to_ids(), tensor.to_ids());
                } else {
                    let bits =
                        |t: &Tensor| t.to_vec().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(got), bits(tensor), "{name}");
                }
            }
        }

        // Read by the crate `safetensors`.
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = theirs.tensor("sliced").unwrap();
        assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, &[2, 2][..]));
        let wanted: Vec<u8> = [1usize, 2, 5, 6].iter().flat_map(|&at| SPECIAL[at].to_le_bytes()).collect();
        assert_eq!(view.data(), wanted);
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["seed"], "42");
    }
}

#[test]
fn files_of_the_safetensors_crate_are_read() {
    use safetensors::tensor::{Dtype, TensorView};
    let dir = Dir::new();
    let path = dir.file("theirs.safetensors");
    let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let write = |dtype: Dtype, shape: Vec<usize>, data: &[u8]| {
        let view = TensorView::new(dtype, shape, data).unwrap();
        safetensors::serialize_to_file([("w", view)], None, &path).unwrap();
        io::load(&path, &Device::cpu())
    };
    let (tensors, metadata) = write(Dtype::F32, vec![2, 1], &data).unwrap();
    assert!(metadata.is_empty());
    assert_eq!(
        (tensors[0].0.as_str(), tensors[0].1.shape(), tensors[0].1.to_vec().unwrap()),
        ("w", Shape::new([2, 1]).unwrap(), vec![1.5, -2.0])
    );
    // Halves are exact in f32: 1, -2, the largest, the smallest subnormal; 1, -2, 2^-126, infinity.
    let bytes = |halves: [u16; 4]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    let read = |dtype, data: &[u8]| write(dtype, vec![4], data).unwrap().0[0].1.to_vec().unwrap();
    let halves = read(Dtype::F16, &bytes([0x3c00, 0xc000, 0x7bff, 0x0001]));
    assert_eq!(halves, [1.0, -2.0, 65504.0, 2f32.powi(-24)]);
    let halves = read(Dtype::BF16, &bytes([0x3f80, 0xc000, 0x0080, 0x7f80]));
    assert_eq!(halves, [1.0, -2.0, 2f32.powi(-126), f32::INFINITY]);
    let bytes = |ids: [i64; 2]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let (tensors, _) = write(Dtype::I64, vec![2], &bytes([7, 4_000_000_000])).unwrap();
    assert_eq!(tensors[0].1.to_ids().unwrap(), [7, 4_000_000_000]);
    let error = write(Dtype::I64, vec![2], &bytes([7, -1])).unwrap_err().to_string();
    assert!(error.contains("w has numbers that are not from 0 to"), "{error}");
    let error = write(Dtype::F64, vec![1], &data).unwrap_err().to_string();
    assert!(error.contains("the tensor w of type F64; only F32, F16, BF16"), "{error}");
    let error = write(Dtype::F32, vec![1, 1, 1, 1, 1, 1, 2], &data).unwrap_err().to_string();
    assert!(error.contains("the tensor w of a shape that is not read: shape: rank 7"), "{error}");
}

#[test]
fn empty_tensors_keep_one_order() {
    let dir = Dir::new();
    let path = dir.file("empty.safetensors");
    let empty = |name: &str| (name.to_string(), Tensor::zeros([0], &Device::cpu()).unwrap());
    let one = ("one".to_string(), Tensor::ones([1], &Device::cpu()).unwrap());
    let names: Vec<String> = (10..30).map(|n| n.to_string()).collect();
    let tensors: Vec<_> = names.iter().map(|name| empty(name)).chain([one]).collect();
    io::save(&path, &tensors, &Metadata::new()).unwrap();
    for _ in 0..5 {
        let (loaded, _) = io::load(&path, &Device::cpu()).unwrap();
        let loaded: Vec<String> = loaded.into_iter().map(|(name, _)| name).collect();
        assert_eq!(loaded, [&names[..], &["one".to_string()]].concat());
    }
}

#[test]
fn names_from_files_do_not_command_the_terminal() {
    let dir = Dir::new();
    let hostile = "\u{1b}[31m\u{7}\r\n\u{9b}2J\u{202e}\u{7f}ü";
    let shown = r"\u{1b}[31m\u{7}\r\n\u{9b}2J\u{202e}\u{7f}ü";
    let model = mlp(1, &Device::cpu());
    let path = dir.file("model.safetensors");
    let tensors = [(hostile.to_string(), Tensor::ones([1], &Device::cpu()).unwrap())];
    io::save(&path, &tensors, &Metadata::new()).unwrap();
    let mut messages = vec![load_parameters(&model, &path).unwrap_err()];
    messages.push(io::save(&path, &[&tensors[..], &tensors[..]].concat(), &Metadata::new()).unwrap_err());
    messages.push(io::load(dir.file(hostile), &Device::cpu()).unwrap_err());
    let mut adam = Adam::new(model.parameters(), 0.1);
    messages.push(adam.load_state(&model.named_parameters(), &tensors).unwrap_err());
    let header =
        serde_json::json!({ hostile: { "dtype": "F64", "shape": [0], "data_offsets": [0, 0] } }).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    messages.push(io::parse(bytes, &Device::cpu()).unwrap_err());
    for message in messages.iter().map(ToString::to_string) {
        assert!(message.contains(shown) && !message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn parameters_go_through_a_file() {
    let dir = Dir::new();
    for device in devices() {
        for target in devices() {
            let path = dir.file("model.safetensors");
            let (model, other) = (mlp(1, &device), mlp(2, &target));
            let wanted = hash_parameters(&model).unwrap();
            assert_ne!(hash_parameters(&other).unwrap(), wanted);
            let metadata = Metadata::from([("epoch".to_string(), "3".to_string())]);
            save_parameters_with(&model, &path, &metadata).unwrap();
            let leaves: Vec<Tensor> = other.parameters().iter().map(Parameter::tensor).collect();
            let before: Vec<Vec<f32>> = leaves.iter().map(|leaf| leaf.to_vec().unwrap()).collect();
            assert_eq!(load_parameters(&other, &path), Ok(metadata));
            assert_eq!(hash_parameters(&other).unwrap(), wanted);
            // Other handles still have the old values.
            assert!(leaves.iter().zip(&before).all(|(leaf, old)| leaf.to_vec().unwrap() == *old));
            assert!(
                other.parameters().iter().all(|p| p.tensor().device().same(&target) && p.tensor().is_leaf())
            );
            save_parameters(&other, &path).unwrap();
            assert_eq!(load_parameters(&model, &path), Ok(Metadata::new()));
        }
    }
}

/// Loads a broken file into a model. Asserts one error that names the file and contains `parts`, and no change.
fn refused(path: &Path, model: &Sequential, parts: &[&str]) {
    let before = hash_parameters(model).unwrap();
    let message = load_parameters(model, path).expect_err("should be refused").to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(parts.iter().all(|part| message.contains(part)), "{message}, should have {parts:?}");
    assert_eq!(hash_parameters(model).unwrap(), before);
}

#[test]
fn a_truncated_file_is_one_error_and_no_change() {
    let dir = Dir::new();
    let path = dir.file("model.safetensors");
    for device in devices() {
        let model = mlp(1, &device);
        save_parameters(&model, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 256);
        for length in (0..bytes.len()).step_by(64).chain([7, 8, 9, bytes.len() - 1]) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            refused(&path, &model, &["truncated"]);
        }
        std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        refused(&path, &model, &["has 1 bytes after its tensors"]);
    }
}

#[test]
fn malformed_headers_are_refused() {
    let dir = Dir::new();
    let path = dir.file("model.safetensors");
    let model = mlp(1, &Device::cpu());
    let file = |length: u64, header: &str, data: usize| {
        let bytes = [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
        std::fs::write(&path, bytes).unwrap();
    };
    let try_header = |header: &str, data: usize, parts: &[&str]| {
        file(header.len() as u64, header, data);
        refused(&path, &model, parts);
    };
    try_header("", 0, &["malformed"]);
    try_header("[]", 0, &["malformed"]);
    try_header("{", 0, &["malformed"]);
    try_header(&"[".repeat(100_000), 0, &["malformed"]);
    try_header(r#"{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4, &["malformed"]);
    try_header(r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, &["malformed"]);
    // Sizes that do not agree, overlap, leave a gap, run backwards, or overflow.
    try_header(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, &["malformed"]);
    try_header(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, &["malformed"]);
    try_header(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, &["malformed"]);
    let pair = r#"{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    try_header(pair, 4, &["malformed"]);
    let huge = u64::MAX;
    try_header(&format!(r#"{{"w":{{"dtype":"U8","shape":[{huge}],"data_offsets":[0,{huge}]}}}}"#), 4, &["w"]);
    try_header(
        &format!(r#"{{"w":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,4]}}}}"#),
        4,
        &["malformed"],
    );
    let most = u64::MAX / 8;
    try_header(
        &format!(r#"{{"w":{{"dtype":"U8","shape":[{most}],"data_offsets":[0,{most}]}}}}"#),
        4,
        &["truncated: it has 4 of"],
    );
    // A length field that exceeds the file.
    for length in [3, 1 << 20, u64::MAX] {
        file(length, "{}", 0);
        refused(&path, &model, &["truncated"]);
    }
    refused(&dir.file("none.safetensors"), &model, &["can't be read"]);
    refused(&dir.0, &model, &["can't be read"]);
}

#[test]
fn what_does_not_fit_the_model_is_listed_and_changes_nothing() {
    let dir = Dir::new();
    let path = dir.file("model.safetensors");
    for device in devices() {
        let model = mlp(1, &device);
        let zeros = |shape: &[usize]| Tensor::zeros(shape, &device).unwrap();
        // The first parameter fits; a reader that does not check all tensors first would change it.
        let tensors = [
            ("0.weight".to_string(), zeros(&[8, 2])),
            ("0.bias".to_string(), zeros(&[2, 4])),
            ("1.weight".to_string(), Tensor::from_ids(&[0; 8], [1, 8], &device).unwrap()),
            ("2.weight".to_string(), zeros(&[3])),
        ];
        io::save(&path, &tensors, &Metadata::new()).unwrap();
        let parts = [
            "does not fit the model: ",
            "0.bias is F32 [2, 4], should be F32 [8]",
            "1.weight is U32 [1, 8], should be F32 [1, 8]",
            "1.bias is missing",
            "2.weight is not a parameter of the model",
        ];
        refused(&path, &model, &parts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..cases() })]

    /// Any bytes give a result or an error.
    #[test]
    fn no_file_makes_the_reader_panic(at in 0usize..600, byte: u8, noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = Dir::new();
        let path = dir.file("model.safetensors");
        let model = mlp(1, &Device::cpu());
        save_parameters_with(&model, &path, &Metadata::from([("a".into(), "b".into())])).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        std::fs::write(&path, &bytes).unwrap();
        let before = hash_parameters(&model).unwrap();
        if load_parameters(&model, &path).is_err() {
            prop_assert_eq!(hash_parameters(&model).unwrap(), before);
        }
        std::fs::write(&path, &noise).unwrap();
        prop_assert!(load_parameters(&model, &path).is_err());
    }
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let dir = Dir::new();
    let path = dir.file("model.safetensors");
    let model = mlp(1, &Device::cpu());
    save_parameters(&model, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let fails = |path: &Path, tensors: &[(String, Tensor)], part: &str| {
        let error = io::save(path, tensors, &Metadata::new()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(std::fs::read(dir.file("model.safetensors")).unwrap(), bytes);
        assert_eq!(dir.names(), ["model.safetensors"]);
    };
    let one = Tensor::ones([3], &Device::cpu()).unwrap();
    let named = |name: &str| (name.to_string(), one.clone());
    fails(&path, &[named("w"), named("w")], "two tensors can't both be named w");
    fails(&path, &[named("__metadata__")], "__metadata__");
    fails(&dir.file("no/such/directory"), &[named("w")], "can't be written");
    fails(Path::new(""), &[named("w")], "names no file");
    fails(&dir.0, &[named("w")], "is a directory, not a regular file");

    // The device fails between two tensors.
    if let Device::Gpu(_) = device() {
        let name = std::env::var("GRISTMILL_DEVICE").unwrap_or_else(|_| "gpu".to_string());
        let lost = Device::open_with(&name, &Default::default()).unwrap();
        let tensors = [named("w"), ("v".to_string(), Tensor::ones([3], &lost).unwrap())];
        if let Device::Gpu(gpu) = &lost {
            gpu.destroy();
        }
        fails(&path, &tensors, "was lost");
    }
}

#[test]
fn a_part_of_a_file_loads_under_other_names() {
    let dir = Dir::new();
    let path = dir.file("whole.safetensors");
    for device in devices() {
        let (source, target) = (mlp(1, &device), mlp(2, &device));
        let before = target.state_dict();
        // Encoder and head of a larger model, whose weights are called gamma.
        let mut tensors: Vec<_> = source.state_dict();
        tensors
            .iter_mut()
            .for_each(|(name, _)| *name = format!("encoder.{}", name.replace("weight", "gamma")));
        tensors.push(("head.weight".to_string(), Tensor::ones([3], &device).unwrap()));
        io::save(&path, &tensors, &[("epoch".to_string(), "3".to_string())].into()).unwrap();

        let renamed = || LoadOptions::new().prefix("encoder.").rename(|name| name.replace("gamma", "weight"));
        let report = load_parameters_with(&target, &path, &renamed()).unwrap();
        assert_eq!((report.missing, report.unexpected), (vec![], vec![]));
        assert_eq!(report.metadata["epoch"], "3");
        assert_eq!(hash_parameters(&target), hash_parameters(&source));

        load_state_dict(&target, &before, &LoadOptions::new()).unwrap();
        assert_ne!(hash_parameters(&target), hash_parameters(&source));
        let prefixed = || LoadOptions::new().prefix("encoder.");
        let error = load_parameters_with(&target, &path, &prefixed()).unwrap_err().to_string();
        for part in ["whole.safetensors", "0.weight is missing", "0.gamma is not a parameter of the model"] {
            assert!(error.contains(part), "{error}");
        }
        let report = load_parameters_with(&target, &path, &prefixed().strict(false)).unwrap();
        assert_eq!(report.missing, ["0.weight", "1.weight"]);
        assert_eq!(report.unexpected, ["0.gamma", "1.gamma"]);
        // The biases are the source's now, the weights as they were.
        let values = |state: &[(String, Tensor)]| -> Vec<Vec<f32>> {
            state.iter().map(|(_, tensor)| tensor.to_vec().unwrap()).collect()
        };
        let (now, source, before) =
            (values(&target.state_dict()), values(&source.state_dict()), values(&before));
        assert_eq!([&now[1], &now[3]], [&source[1], &source[3]]);
        assert_eq!([&now[0], &now[2]], [&before[0], &before[2]]);

        // Two tensors under one name, and one of another shape, are errors even if not strict.
        let both = LoadOptions::new().prefix("encoder.").rename(|_| "0.bias".to_string()).strict(false);
        let error = load_parameters_with(&target, &path, &both).unwrap_err().to_string();
        assert!(error.contains("0.bias appears twice") && error.contains("0.bias is F32"), "{error}");
        assert_eq!(values(&target.state_dict()), now, "nothing changed");
    }
}

/// Files of older models hold masks of other types beside the parameters.
#[test]
fn a_tensor_that_can_t_be_read_matters_only_where_it_is_wanted() {
    let dir = Dir::new();
    let path = dir.file("mask.safetensors");
    let device = device();
    let layer = Linear::new(1, 1, &mut Init::new(1, &device)).unwrap();
    let write = |mask: &str| {
        let header = serde_json::json!({
            mask: { "dtype": "BOOL", "shape": [4], "data_offsets": [0, 4] },
            "weight": { "dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8] },
            "deep": { "dtype": "F32", "shape": [1, 1, 1, 1, 1, 1, 1], "data_offsets": [8, 12] },
        })
        .to_string();
        let numbers = [[1, 0, 1, 0], 2.5f32.to_le_bytes(), 0f32.to_le_bytes()].concat();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &numbers].concat();
        std::fs::write(&path, bytes).unwrap();
    };
    write("mask");
    assert!(io::load(&path, &device).unwrap_err().to_string().contains("the tensor mask of type BOOL"));
    assert!(load_parameters(&layer, &path).unwrap_err().to_string().contains("mask is not a parameter"));
    let partial = || LoadOptions::new().strict(false);
    let report = load_parameters_with(&layer, &path, &partial()).unwrap();
    assert_eq!((report.missing, report.unexpected.len()), (vec!["bias".to_string()], 2));
    assert_eq!(layer.parameters()[0].tensor().item(), Ok(2.5));
    write("bias");
    let error = load_parameters_with(&layer, &path, &partial()).unwrap_err().to_string();
    assert!(error.contains("bias is of type BOOL"), "{error}");
}

#[test]
fn a_model_in_several_files_loads_by_its_index() {
    let dir = Dir::new();
    let index = dir.file("model.safetensors.index.json");
    let write = |map: serde_json::Value| {
        std::fs::write(&index, serde_json::json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    };
    for device in devices() {
        let (source, target) = (mlp(1, &device), mlp(2, &device));
        let state = source.state_dict();
        for (at, part) in state.chunks(3).enumerate() {
            io::save(dir.file(&format!("part-{at}.safetensors")), part, &Metadata::new()).unwrap();
        }
        let files: serde_json::Map<_, _> = (0..)
            .zip(&state)
            .map(|(at, (name, _))| (name.clone(), format!("part-{}.safetensors", at / 3).into()))
            .collect();
        write(files.clone().into());
        load_parameters(&target, &index).unwrap();
        assert_eq!(hash_parameters(&target), hash_parameters(&source));
        assert_eq!(io::load(&index, &device).unwrap().0.len(), 4);

        let refused = |map: serde_json::Value, part: &str| {
            write(map);
            let error = io::load(&index, &device).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("index.json"), "{error}");
        };
        let mut more = files.clone();
        more.insert("2.weight".to_string(), "part-0.safetensors".into());
        refused(more.into(), "says that 2.weight is in part-0.safetensors");
        for outside in ["../part-0.safetensors", "/etc/passwd", "a/b", "..", ""] {
            refused(serde_json::json!({ "x": outside }), "not a file beside it");
        }
        refused(serde_json::json!([1]), "is not an index");
        std::fs::write(&index, "{").unwrap();
        assert!(io::load(&index, &device).unwrap_err().to_string().contains("is not an index"));
    }
}

#[test]
fn a_checkpoint_of_model_and_optimizer_resumes_with_the_same_bits() {
    let dir = Dir::new();
    let path = dir.file("checkpoint.safetensors");
    for device in devices() {
        let x = Array::random([16, 2], 1, -1.0, 1.0).to_tensor(&device);
        let y = Array::random([16, 1], 2, -1.0, 1.0).to_tensor(&device);
        let train = |model: &Sequential, optimizer: &mut Adam, steps: usize| {
            for _ in 0..steps {
                let loss = mse_loss(&model.forward(&x).unwrap(), &y).unwrap();
                optimizer.step(&loss.backward().unwrap()).unwrap();
            }
        };
        let model = mlp(1, &device);
        let mut optimizer = Adam::new(model.parameters(), 0.01);
        train(&model, &mut optimizer, 5);
        save_checkpoint(&model, &optimizer, &path, &[("step".to_string(), "5".to_string())].into()).unwrap();
        train(&model, &mut optimizer, 5);

        let resumed = mlp(9, &device);
        let mut optimizer = Adam::new(resumed.parameters(), 0.01);
        assert_eq!(load_checkpoint(&resumed, &mut optimizer, &path).unwrap()["step"], "5");
        train(&resumed, &mut optimizer, 5);
        assert_eq!(hash_parameters(&resumed), hash_parameters(&model));

        // A file of parameters only cannot be resumed from, and changes nothing.
        save_parameters(&model, &path).unwrap();
        let other = mlp(3, &device);
        let before = hash_parameters(&other);
        let error = load_checkpoint(&other, &mut optimizer, &path).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
        assert_eq!(hash_parameters(&other), before);
    }
}
