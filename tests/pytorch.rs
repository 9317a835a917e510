//! Files of PyTorch's `torch.save`: read exactly or refused, and nothing in them is run. `tests/golden/pytorch.py` makes
//! those in `tests/golden/pytorch`, and says what is in them.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::devices;
use gristmill::io::{self, Metadata};
use gristmill::nn::*;
use gristmill::{DType, Device, Result, Tensor};
use std::path::PathBuf;
use tempfile::tempdir;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pytorch").join(name)
}

fn error<T>(result: Result<T>) -> String {
    result.err().unwrap().to_string()
}

#[test]
fn tensors_have_the_names_shapes_and_bits_that_pytorch_says() {
    let expected = std::fs::read(golden("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let files: Vec<_> =
        expected.as_object().unwrap().iter().filter(|(_, tensors)| tensors.is_array()).collect();
    assert!(files.len() > 5);
    for (file, wanted) in files {
        for device in devices() {
            let (tensors, _) = io::load(golden(file), &device).unwrap();
            let got: Vec<serde_json::Value> = tensors
                .iter()
                .map(|(name, tensor)| {
                    let values = match tensor.dtype() {
                        DType::F32 => serde_json::json!(tensor.to_vec().unwrap()),
                        DType::U32 => serde_json::json!(tensor.to_ids().unwrap()),
                    };
                    serde_json::json!([name, tensor.shape()[..], values])
                })
                .collect();
            assert_eq!(got.len(), wanted.as_array().unwrap().len(), "{file}");
            for (got, wanted) in got.iter().zip(wanted.as_array().unwrap()) {
                assert_eq!((&got[0], &got[1]), (&wanted[0], &wanted[1]), "{file}");
                // The JSON reader may err in the last bit of an f64, which an f32 does not have.
                let bits = |values: &serde_json::Value| -> Vec<u64> {
                    let values = values.as_array().unwrap().iter();
                    let bits = |x: f64| u64::from((x as f32).to_bits());
                    values.map(|x| x.as_u64().unwrap_or_else(|| bits(x.as_f64().unwrap()))).collect()
                };
                assert_eq!(bits(&got[2]), bits(&wanted[2]), "{file}: {}", got[0]);
            }
        }
    }
}

#[test]
fn numbers_and_strings_are_the_metadata() {
    let (_, metadata) = io::load(golden("checkpoint.pt"), &Device::cpu()).unwrap();
    let wanted = [
        ("epoch", "3"),
        ("loss", "1e-30"),
        ("seed", "18446744073709551615"),
        ("shift", "-1099511627776"),
        ("name", "a \"quoted\" ü\n"),
        ("best", "true"),
        ("sizes.0", "1"),
        ("sizes.1.0", "2"),
        ("sizes.1.1", "-300"),
        ("sizes.3.4", "70000"),
        ("sizes.3.0.5", "half"),
    ];
    let (of_the_optimizer, others): (Metadata, Metadata) =
        metadata.into_iter().partition(|(name, _)| name.starts_with("optimizer."));
    assert_eq!(others, wanted.map(|(name, value)| (name.to_string(), value.to_string())).into());
    assert_eq!(of_the_optimizer["optimizer.param_groups.0.betas.1"], "0.999");
    assert_eq!(of_the_optimizer["optimizer.param_groups.0.params.5"], "5");
    let (_, metadata) = io::load(golden("cnn.pt"), &Device::cpu()).unwrap();
    assert_eq!(metadata, Metadata::new(), "`_metadata` of a state_dict is no metadata");
}

#[test]
fn a_model_loads_from_its_state_and_from_a_checkpoint() {
    for device in devices() {
        let model = |seed| -> Result<Sequential> {
            let mut init = Init::new(seed, &device);
            Ok(Sequential::new()
                .push(Conv2d::new(1, 2, [3, 3], &mut init)?)
                .push(BatchNorm2d::new(2, &init)?)
                .push(Flatten)
                .push(Linear::new(8, 2, &mut init)?))
        };
        let (first, second) = (model(1).unwrap(), model(2).unwrap());
        let options = || LoadOptions::new().strict(false);
        let report = load_parameters_with(&first, golden("cnn.pt"), &options()).unwrap();
        assert_eq!((report.missing, report.unexpected), (vec![], vec![]));
        let (tensors, _) = io::load(golden("cnn.pt"), &device).unwrap();
        for (name, tensor) in first.state_dict() {
            let (_, wanted) = tensors.iter().find(|(own, _)| *own == name).unwrap();
            assert_eq!(tensor.to_vec(), wanted.to_vec(), "{name}");
        }

        let report =
            load_parameters_with(&second, golden("checkpoint.pt"), &options().prefix("model.")).unwrap();
        assert_eq!((report.missing, report.unexpected), (vec![], vec![]));
        assert_eq!(report.metadata["epoch"], "3");
        assert_eq!(hash_parameters(&first), hash_parameters(&second));

        // The number of batches that PyTorch counts, `1.num_batches_tracked`, is passed over.
        load_parameters(&second, golden("cnn.pt")).unwrap();
    }
}

#[test]
fn a_model_in_several_files_loads_by_its_index() {
    let dir = tempdir().unwrap();
    for file in ["tensor.pt", "list.pt"] {
        std::fs::copy(golden(file), dir.path().join(file)).unwrap();
    }
    let index = dir.path().join("pytorch_model.bin.index.json");
    let map = serde_json::json!({ "weight_map": { "1.0": "list.pt", "tensor": "tensor.pt" } });
    std::fs::write(&index, map.to_string()).unwrap();
    let (tensors, _) = io::load(&index, &Device::cpu()).unwrap();
    let values: Vec<_> = tensors.iter().map(|(name, tensor)| (&**name, tensor.to_vec().unwrap())).collect();
    assert_eq!(values, [("1.0", vec![2.0]), ("tensor", vec![1.0, 2.5, -3.0])]);
}

#[test]
fn a_tensor_of_another_type_matters_only_where_it_is_wanted() {
    let (path, device) = (golden("other_types.pt"), Device::cpu());
    let message = error(io::load(&path, &device));
    assert!(message.contains("has the tensor f64 of type F64; only F32, F16"), "{message}");
    let layer = Linear::new(1, 1, &mut Init::new(1, &device)).unwrap();
    let options = || LoadOptions::new().strict(false);
    let report = load_parameters_with(&layer, &path, &options()).unwrap();
    assert_eq!(layer.parameters()[0].tensor().item(), Ok(1.5));
    assert_eq!(report.unexpected, ["f64", "bool", "u8", "i8", "i16", "f8", "rank_7"]);
    let whys =
        [("f8", "of type F8_E4M3"), ("bool", "of type BOOL"), ("rank_7", "of a shape that is not read")];
    for (name, why) in whys {
        let options = options().rename(|own| if own == name { "bias".to_string() } else { own.to_string() });
        let message = error(load_parameters_with(&layer, &path, &options));
        assert!(message.contains(&format!("bias is {why}")), "{message}");
    }
}

#[test]
fn objects_of_other_kinds_are_refused_by_name_and_nothing_is_run() {
    let refused = |file: &str, parts: &[&str]| {
        let message = error(io::load(golden(file), &Device::cpu()));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    refused("command.pt", &["command.pt: ", "it names posix.system, and nothing that a file names is run"]);
    assert!(!PathBuf::from("gristmill-must-not-run-this").exists());
    refused(
        "model.pt",
        &["it names torch.nn.modules.container.Sequential", "torch.save(model.state_dict(), path)"],
    );
    refused("complex.pt", &["it names torch.ComplexFloatStorage"]);
    refused("negative.pt", &["0 has numbers that are not from 0 to 4294967295"]);
    refused("before_1.6.pt", &["the format of PyTorch before 1.6", "save it again with torch.save"]);
}

/// A zip archive of stored files. If `large`, all numbers are in the fields for those over 32 bits.
fn zip(files: &[(&str, &[u8])], large: bool) -> Vec<u8> {
    let number = |value: usize, size: usize| value.to_le_bytes()[..size].to_vec();
    let small = |value: usize| if large { vec![0xff; 4] } else { number(value, 4) };
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let at = bytes.len();
        let length = content.len();
        bytes
            .extend([b"PK\x03\x04\0\0\0\x08".as_slice(), &[0; 18], &number(name.len(), 2), &[3, 0]].concat());
        bytes.extend([name.as_bytes(), b"pad", content].concat());
        let sizes = [number(length, 8), number(length, 8), number(at, 8)].concat();
        // A field of another kind comes first.
        let extra = if large { [&b"\x02\0\x01\0x\x01\0\x18\0"[..], &sizes].concat() } else { Vec::new() };
        directory.extend(
            [b"PK\x01\x02\0\0\0\0\0\x08".as_slice(), &[0; 10], &small(length), &small(length)].concat(),
        );
        directory.extend([number(name.len(), 2), number(extra.len(), 2), vec![0; 10], small(at)].concat());
        directory.extend([name.as_bytes(), &extra].concat());
    }
    let (at, size, count) = (bytes.len(), directory.len(), files.len());
    bytes.extend(directory);
    if large {
        let end = bytes.len();
        bytes.extend([b"PK\x06\x06".as_slice(), &number(44, 8), &[0; 12], &number(count, 8)].concat());
        bytes.extend([number(count, 8), number(size, 8), number(at, 8)].concat());
        bytes.extend([b"PK\x06\x07".as_slice(), &[0; 4], &number(end, 8), &[1, 0, 0, 0]].concat());
    }
    bytes.extend([b"PK\x05\x06".as_slice(), &[0; 4], &number(count, 2), &number(count, 2)].concat());
    bytes.extend([small(size), small(at), vec![0, 0]].concat());
    bytes
}

/// Reads a pickle, beside a storage of the floats 0, 1, 2 and 3.
fn unpickled(pickle: &[u8]) -> Result<(Vec<(String, Tensor)>, Metadata)> {
    let storage: Vec<u8> = [0f32, 1.0, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    io::parse(zip(&[("x/data.pkl", pickle), ("x/data/0", &storage)], false), &Device::cpu())
}

/// The opcode of a number.
fn number(x: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &x.to_le_bytes()].concat()
}

/// Those of numbers as a tuple.
fn tuple(numbers: &[i64]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|&x| number(x));
    [b"(".to_vec(), numbers.collect(), b"t".to_vec()].concat()
}

/// Those of a tensor: in PyTorch's words, `_rebuild_tensor(storage, offset, dims, strides)`, of a storage
/// of `numel` floats under `key`.
fn tensor(key: &str, numel: i64, offset: i64, dims: &[i64], strides: &[i64]) -> Vec<u8> {
    let text = |text: &str| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat();
    [
        b"ctorch._utils\n_rebuild_tensor\n(".to_vec(),
        [b"(".to_vec(), text("storage"), b"ctorch\nFloatStorage\n".to_vec()].concat(),
        [text(key), text("cpu"), number(numel), b"tQ".to_vec()].concat(),
        [number(offset), tuple(dims), tuple(strides), b"tR".to_vec()].concat(),
    ]
    .concat()
}

#[test]
fn archives_are_read_or_refused_whatever_they_contain() {
    let pickle = [tensor("0", 1, 0, &[1], &[1]), b".".to_vec()].concat();
    let one = 1f32.to_le_bytes();
    let files: [(&str, &[u8]); 2] = [("x/data.pkl", &pickle), ("x/data/0", &one)];
    let read = |bytes: Vec<u8>| io::parse(bytes, &Device::cpu());
    for large in [false, true] {
        let (tensors, _) = read(zip(&files, large)).unwrap();
        assert_eq!((&*tensors[0].0, tensors[0].1.item()), ("tensor", Ok(1.0)));
        // With a comment behind it.
        assert!(read([zip(&files, large), b"comment".to_vec()].concat()).is_ok());
    }
    let refused = |bytes: Vec<u8>, part: &str| {
        let message = error(read(bytes));
        assert!(message.contains(part), "{message}, should have {part}");
    };
    let whole = zip(&files, false);
    refused(whole[..whole.len() - 30].to_vec(), "is truncated");
    refused(b"PK\x03\x04".to_vec(), "is truncated");
    let mut packed = whole.clone();
    let directory = whole.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    packed[directory + 10] = 8;
    refused(packed, "has the file x/data.pkl, which is compressed");
    let with = |name, content| zip(&[files[0], files[1], (name, content)], false);
    assert!(read(with("x/byteorder", b"little")).is_ok());
    refused(with("x/byteorder", b"big"), "is from a big-endian machine");
    refused(zip(&files[1..], false), "without data.pkl");
    refused(zip(&files[..1], false), "the tensor tensor is not in data/0");
    refused(zip(&[files[0], ("x/data/0", &[0; 8])], false), "or that has another size");
}

#[test]
fn tensors_outside_of_their_storage_are_refused() {
    let read = |numel, offset, dims: &[i64], strides: &[i64]| {
        let (tensors, _) = unpickled(&[tensor("0", numel, offset, dims, strides), b".".to_vec()].concat())?;
        tensors[0].1.to_vec()
    };
    assert_eq!(read(4, 1, &[3], &[1]), Ok(vec![1.0, 2.0, 3.0]));
    assert_eq!(read(4, 0, &[2, 2], &[1, 2]), Ok(vec![0.0, 2.0, 1.0, 3.0]));
    assert_eq!(read(4, 3, &[2, 3], &[0, 0]), Ok(vec![3.0; 6]));
    assert_eq!(read(4, 3, &[], &[]), Ok(vec![3.0]));
    assert_eq!(read(4, 9, &[0, 7], &[7, 1]), Ok(vec![]));
    let max = i64::MAX;
    for (numel, offset, dims, strides) in [
        (4, 2, &[3][..], &[1][..]),
        (4, 0, &[2, 2], &[3, 1]),
        (4, 4, &[], &[]),
        (4, max, &[2], &[max]),
        (4, 0, &[max, max], &[max, max]),
        (5, 0, &[5], &[1]),
        (3, 0, &[3], &[1]),
        (max, 0, &[max], &[1]),
    ] {
        let message = error(read(numel, offset, dims, strides));
        assert!(message.contains("is not in data/0, or that has another size"), "{message}");
    }
    for (offset, dims, strides) in [
        (-1, &[1][..], &[1][..]),
        (0, &[-1], &[1]),
        (0, &[1], &[-1]),
        (0, &[1], &[1, 1]),
        (0, &[1; 65], &[1; 65]),
    ] {
        let message = error(read(4, offset, dims, strides));
        assert!(message.contains("it has a tensor with wrong arguments"), "{message}");
    }
    // Expanded without end.
    assert!(error(read(4, 0, &[max], &[0])).contains("of a shape that is not read"));
    assert!(
        error(read(4, 0, &[1 << 40], &[0])).contains("over 16 times its own size: save expanded tensors")
    );
    let message = error(unpickled(&[tensor(&"0".repeat(33), 4, 0, &[4], &[1]), b".".to_vec()].concat()));
    assert!(message.contains("it has a storage with a wrong id"), "{message}");
}

#[test]
fn pickles_that_are_wrong_or_expand_without_end_are_refused() {
    let refused = |pickle: &[u8], part: &str| {
        let message = error(unpickled(pickle));
        assert!(message.contains(part), "{message}, should have {part}");
    };
    refused(b"", "is truncated");
    refused(b"}", "is truncated");
    refused(b"X\xff\xff\xff\xffx", "is truncated");
    refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx", "is truncated");
    refused(b".", "an empty stack");
    refused(b"](a.", "an empty stack"); // a mark is no value
    refused(b"t.", "a mark that is not there");
    refused(b"]h\x01.", "before it is made");
    refused(b"}Na.", "appends to something");
    refused(b"]NNs.", "sets items of something");
    refused(b"}(Nu.", "sets items of something");
    refused(b"]Nb.", "sets attributes of something");
    refused(b"NNR.", "calls something without arguments");
    refused(b"ccollections\nOrderedDict\n(NtR.", "calls something with wrong arguments");
    refused(b"NQ.", "a storage without an id");
    refused(b")Q.", "a storage with a wrong id");
    refused(b"\x8c\x02os\x8c\x06system\x93.", "it names os.system");
    refused(b"c__builtin__\neval\n.", "it names __builtin__.eval");
    refused(b"\x8c\x01\xff.", "text that is not UTF-8");
    refused(&[&b"\x8a\x11"[..], &[1; 17], b"."].concat(), "an integer of more than 128 bits");
    refused(b"i.", "the opcode 0x69, which is not read");
    refused(b"K\x01.", "is a single value");
    refused(b"})Ns.", "a key that is neither text nor a number");
    refused(b"](ctorch\nuint16\ne.", "0 is a type or a storage");

    // Two tensors under one name: {"0": {"0": x}, "0.0": x}
    let one = tensor("0", 4, 0, &[4], &[1]);
    let twice = [&b"}K\x00}K\x00"[..], &one, b"ss\x8c\x030.0", &one, b"s."].concat();
    refused(&twice, "two of its tensors are called 0.0");

    // Lists of two times the same list, 64 deep, have 2^64 elements; one that contains itself has no end.
    let doubled: Vec<u8> = (0..64u8).flat_map(|at| [b'h', at, b'h', at, 0x86, b'q', at + 1]).collect();
    refused(&[&b"K\x00\x85q\x00"[..], &doubled, b"."].concat(), "contain each other so often");
    refused(b"]q\x00h\x00a.", "contain each other so often");
    refused(b"}q\x00\x8c\x01xh\x00s.", "contain each other so often");
    // A long string under many names.
    let long =
        [&b"](X\x00\x00\x10\x00"[..], &vec![b'x'; 1 << 20], b"q\x00", &b"h\x00".repeat(1 << 10), b"e."]
            .concat();
    refused(&long, "contain each other so often");
    // Deep is no problem by itself, but its names are long; so are very many opcodes.
    let deep = |depth: usize| [&b"]".repeat(depth)[..], &b"a".repeat(depth - 1), b"."].concat();
    assert!(unpickled(&deep(100)).is_ok());
    refused(&deep(1 << 20), "contain each other so often");
    refused(&b"]".repeat(5 << 20), "more than 4194304 opcodes");
    refused(&b"(".repeat(5 << 20), "more than 4194304 opcodes");
}

#[test]
fn no_damage_to_a_file_makes_the_reader_panic() {
    let mut read = 0;
    let mut damage = |bytes: &[u8], changes: &[u8]| {
        let mut try_bytes = |bytes: Vec<u8>| read += usize::from(io::parse(bytes, &Device::cpu()).is_ok());
        (0..bytes.len()).for_each(|length| try_bytes(bytes[..length].to_vec()));
        for at in 0..bytes.len() {
            for change in changes {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= change;
                try_bytes(damaged);
            }
        }
    };
    for file in ["list.pt", "protocol_4.pt"] {
        damage(&std::fs::read(golden(file)).unwrap(), &[1, 2, 4, 8, 16, 32, 64, 128]);
    }
    let pickle = [tensor("0", 1, 0, &[1], &[1]), b".".to_vec()].concat();
    let files: [(&str, &[u8]); 2] = [("x/data.pkl", &pickle), ("x/data/0", &[0; 4])];
    let all: Vec<u8> = (1..=255).collect();
    damage(&zip(&files, false), &all);
    damage(&zip(&files, true), &all);
    assert!(read > 1000, "damage to padding and elements can't be seen");
}
