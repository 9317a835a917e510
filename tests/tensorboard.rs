//! What a `SummaryWriter` writes, read back byte by byte: the framing, the checksums and the fields of each record. What
//! TensorBoard itself reads is checked beside the writer, by a golden file.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use gristmill::tensorboard::{HParam, SummaryWriter};
use gristmill::{Device, Error, Result, Tensor};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::tempdir;

/// A field of a message.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    Int(u64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
}

/// A message: its fields with their numbers, in the order of the file.
#[derive(Debug)]
struct Message(Vec<(u64, Field)>);

impl Message {
    fn read(mut bytes: &[u8]) -> Message {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Field::Int(varint(&mut bytes)),
                1 => Field::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes);
                    Field::Bytes(take(&mut bytes, length as usize).to_vec())
                }
                5 => Field::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
                encoding => panic!("field {} has encoding {encoding}", key >> 3),
            };
            fields.push((key >> 3, value));
        }
        Message(fields)
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |(other, _)| *other == number).map(|(_, value)| value)
    }

    /// The only field with this number.
    fn get(&self, number: u64) -> &Field {
        let mut all = self.all(number);
        let (first, second) = (all.next(), all.next());
        assert!(second.is_none(), "field {number} twice in {self:?}");
        first.unwrap_or_else(|| panic!("no field {number} in {self:?}"))
    }

    fn int(&self, number: u64) -> u64 {
        let Field::Int(value) = self.get(number) else { panic!("{self:?}") };
        *value
    }

    fn double(&self, number: u64) -> f64 {
        let Field::Double(value) = self.get(number) else { panic!("{self:?}") };
        *value
    }

    fn bytes(&self, number: u64) -> &[u8] {
        let Field::Bytes(value) = self.get(number) else { panic!("{self:?}") };
        value
    }

    fn text(&self, number: u64) -> &str {
        str::from_utf8(self.bytes(number)).unwrap()
    }

    fn message(&self, number: u64) -> Message {
        Message::read(self.bytes(number))
    }

    fn doubles(&self, number: u64) -> Vec<f64> {
        let numbers = self.bytes(number).chunks_exact(8);
        numbers.map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// CRC-32C bit by bit (RFC 3720, appendix B.4), masked as in TensorFlow.
fn checksum(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of a file, all of whose checksums hold, and the number of bytes of an incomplete last record.
fn events(path: &Path) -> (Vec<Message>, usize) {
    let file = fs::read(path).unwrap();
    let mut rest = &file[..];
    let mut events = Vec::new();
    while let Some(length) = rest.first_chunk() {
        let length = u64::from_le_bytes(*length) as usize;
        if rest.len() < length + 16 {
            break;
        }
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let [header, sum_of_header, data, sum_of_data] =
            [8, 4, length, 4].map(|count| take(&mut rest, count));
        assert_eq!(number(sum_of_header), checksum(header));
        assert_eq!(number(sum_of_data), checksum(data));
        events.push(Message::read(data));
    }
    (events, rest.len())
}

/// The events of the only file in a directory, which is complete, without the first, which has the version.
fn logged(dir: &Path) -> Vec<Message> {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let (mut events, incomplete) = events(&files[0]);
    assert_eq!(incomplete, 0);
    assert_eq!(events.remove(0).text(3), "brain.Event:2");
    events
}

/// The step, the tag and the value of an event.
fn summary(event: &Message) -> (u64, String, Message) {
    let value = event.message(5).message(1);
    (event.int(2), value.text(1).to_string(), value)
}

/// The only summary that was written.
fn written(write: impl FnOnce(&mut SummaryWriter) -> Result<()>) -> (u64, String, Message) {
    let dir = tempdir().unwrap();
    write(&mut SummaryWriter::new(dir.path()).unwrap()).unwrap();
    let events = logged(dir.path());
    assert_eq!(events.len(), 1);
    summary(&events[0])
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The name of the plugin that shows a value, and its data.
fn plugin(value: &Message) -> (String, Message) {
    let metadata = value.message(9);
    assert_eq!(metadata.int(4), 2, "DATA_CLASS_TENSOR");
    let plugin = metadata.message(1);
    (plugin.text(1).to_string(), plugin.message(2))
}

#[test]
fn scalars_are_on_file_at_once_with_their_times() {
    assert_eq!(checksum(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    let dir = tempdir().unwrap();
    let run = dir.path().join("runs/first");
    let mut writer = SummaryWriter::new(&run).unwrap();
    let values = [0.1, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 5.0];
    let steps = [0, 1, 127, 128, 1 << 40, 3, 3];
    for (value, step) in values.into_iter().zip(steps) {
        let before = now();
        writer.add_scalar("loss/train", value, step).unwrap();
        // Read while the writer is open.
        let events = logged(&run);
        let event = events.last().unwrap();
        assert!((before..=now()).contains(&event.double(1)));
        let (read_step, tag, read) = summary(event);
        assert_eq!((read_step, &*tag), (step, "loss/train"));
        let Field::Float(read) = *read.get(2) else { panic!("{read:?}") };
        assert_eq!(read.to_bits(), (value as f32).to_bits());
    }
    writer.add_scalar("f32", 0.5f32, 4).unwrap();
    writer.flush().unwrap();
    drop(writer);
    assert_eq!(logged(&run).len(), 8, "one event for each call");
}

#[test]
fn histograms_count_the_finite_elements_on_every_device() {
    let values: Vec<f32> = (0..1000).map(|i| (i as f32 - 300.0) * 0.01).collect();
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for device in common::devices() {
        let x = Tensor::from_slice(&[&values[..], &odd].concat(), [17, 59], &device).unwrap();
        let (step, tag, value) = written(|writer| writer.add_histogram("x", &x.t()?, 7));
        assert_eq!((step, &*tag), (7, "x"));
        let histogram = value.message(5);
        let wide: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        assert_eq!([1, 2, 3].map(|field| histogram.double(field)), [wide[0], wide[999], 1000.0]);
        // Transposed, the sums add in another order: 1000 roundings of partial sums below 3e4, each of 2^-53 of them.
        let sums = [wide.iter().sum::<f64>(), wide.iter().map(|v| v * v).sum()];
        for (field, sum) in [(4, sums[0]), (5, sums[1])] {
            assert!((histogram.double(field) - sum).abs() < 1e-8, "{} for {sum}", histogram.double(field));
        }
        let (limits, counts) = (histogram.doubles(6), histogram.doubles(7));
        assert_eq!(limits.len(), counts.len());
        assert!(counts[0] > 0.0 && counts[counts.len() - 1] > 0.0, "empty bins at the ends");
        let lows = [f64::NEG_INFINITY].into_iter().chain(limits.iter().copied());
        for ((low, &high), &count) in lows.zip(&limits).zip(&counts) {
            let expected = wide.iter().filter(|&&v| low <= v && v < high).count();
            assert_eq!(count, expected as f64, "{low} to {high}");
        }
        assert_eq!(counts.iter().sum::<f64>(), 1000.0);
    }
}

#[test]
fn a_histogram_without_finite_elements_is_empty() {
    for values in [&[][..], &[f32::NAN, f32::INFINITY]] {
        let x = Tensor::from_slice(values, [values.len()], &Device::cpu()).unwrap();
        let (_, _, value) = written(|writer| writer.add_histogram("x", &x, 0));
        assert!(value.bytes(5).is_empty());
    }
}

#[test]
fn images_are_png_of_any_layout_and_device() {
    for device in common::devices() {
        for (channels, colorspace) in [(1, 1), (3, 3)] {
            let (height, width) = (5, 7);
            // Each of the 256 levels gives itself.
            let levels: Vec<u8> = (0..channels * height * width).map(|i| (i * 73 % 256) as u8).collect();
            let values: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 255.0).collect();
            let image = Tensor::from_slice(&values, [channels, height, width], &device).unwrap();
            let turned = image.permute(&[0, 2, 1]).unwrap();
            for (image, is_turned) in [(image, false), (turned, true)] {
                let (step, tag, value) = written(|writer| writer.add_image("digit", &image, 2));
                assert_eq!((step, &*tag), (2, "digit"));
                let written = value.message(4);
                let (rows, columns) = if is_turned { (width, height) } else { (height, width) };
                assert_eq!(
                    [1, 2, 3].map(|field| written.int(field)),
                    [rows as u64, columns as u64, colorspace]
                );
                let png = image::load_from_memory(written.bytes(4)).unwrap();
                assert_eq!(png.color().channel_count() as usize, channels);
                for (x, y, pixel) in png.to_rgb8().enumerate_pixels() {
                    let (row, column) = if is_turned { (x, y) } else { (y, x) };
                    let at = |channel| levels[(channel * height + row as usize) * width + column as usize];
                    assert_eq!(pixel.0, [0, 1, 2].map(|channel| at(channel.min(channels - 1))));
                }
            }
        }
    }
}

#[test]
fn texts_are_tensors_of_one_string() {
    let (step, tag, value) = written(|writer| writer.add_text("größe", "a\n\n**b** µ", 3));
    assert_eq!((step, &*tag), (3, "größe"));
    let (name, data) = plugin(&value);
    assert_eq!((&*name, data.0.len()), ("text", 0));
    let tensor = value.message(8);
    assert_eq!((tensor.int(1), tensor.bytes(2), tensor.text(8)), (7, &[][..], "a\n\n**b** µ"));
}

#[test]
fn hyperparameters_are_a_session_that_began_and_ended() {
    let dir = tempdir().unwrap();
    let before = now();
    let mut writer = SummaryWriter::new(dir.path()).unwrap();
    let began = now();
    let hparams = [
        ("rate", 0.125.into()),
        ("layers", 3.into()),
        ("optimizer", "SGD".into()),
        ("nesterov", false.into()),
    ];
    writer.add_hparams(&hparams, &[("accuracy", 0.75), ("loss", f64::NAN)], 10).unwrap();
    let summaries: Vec<_> = logged(dir.path()).iter().map(summary).collect();
    let names: Vec<_> = summaries.iter().map(|(step, tag, _)| (*step, &**tag)).collect();
    let expected = ["_hparams_/session_start_info", "_hparams_/session_end_info", "accuracy", "loss"];
    assert_eq!(names, expected.map(|tag| (10, tag)));

    for (_, _, value) in &summaries[..2] {
        assert_eq!(plugin(value).0, "hparams");
        let tensor = value.message(8);
        assert_eq!((tensor.int(1), tensor.message(2).message(2).int(1)), (1, 0), "no elements of f32");
    }
    let start = plugin(&summaries[0].2).1.message(3);
    let hparam = |entry: &Field| {
        let Field::Bytes(entry) = entry else { panic!("{entry:?}") };
        let entry = Message::read(entry);
        (entry.text(1).to_string(), entry.message(2).0)
    };
    let read: Vec<_> = start.all(1).map(hparam).collect();
    let expected = [
        ("rate", (2, Field::Double(0.125))),
        ("layers", (2, Field::Double(3.0))),
        ("optimizer", (3, Field::Bytes(b"SGD".to_vec()))),
        ("nesterov", (4, Field::Int(0))),
    ];
    assert_eq!(read, expected.map(|(name, value)| (name.to_string(), vec![value])));
    let end = plugin(&summaries[1].2).1.message(4);
    assert_eq!(end.int(1), 1, "STATUS_SUCCESS");
    assert!((before..=began).contains(&start.double(5)));
    assert!((began..=now()).contains(&end.double(2)));
    assert_eq!(summaries[2].2.get(2), &Field::Float(0.75));

    // A run has its hyperparameters once.
    let error = writer.add_hparams(&hparams, &[], 10).unwrap_err().to_string();
    assert!(error.contains("make a writer for each run"), "{error}");
}

#[test]
fn bad_arguments_are_errors_and_write_nothing() {
    let dir = tempdir().unwrap();
    let mut writer = SummaryWriter::new(dir.path()).unwrap();
    let device = Device::cpu();
    let tensor = Tensor::zeros([1, 2, 2], &device).unwrap();
    for tag in ["", "two\nlines", "\u{7f}", "a\0"] {
        for (op, result) in [
            ("add_scalar", writer.add_scalar(tag, 0.5, 0)),
            ("add_histogram", writer.add_histogram(tag, &tensor, 0)),
            ("add_image", writer.add_image(tag, &tensor, 0)),
            ("add_text", writer.add_text(tag, "text", 0)),
            ("add_hparams", writer.add_hparams(&[(tag, 1.into())], &[], 0)),
            ("add_hparams", writer.add_hparams(&[("rate", 1.into())], &[(tag, 0.5)], 0)),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::Argument { op: named, .. } if *named == op), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
    let twice = [("rate", 1.into()), ("rate", HParam::from(2.0))];
    for (hparams, part) in [
        (&twice[..], "\"rate\" is given twice"),
        (&[("rate", f64::NAN.into())], "\"rate\" is NaN"),
        (&[("rate", f64::INFINITY.into())], "\"rate\" is inf"),
    ] {
        let error = writer.add_hparams(hparams, &[], 0).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for shape in [&[2, 2][..], &[2, 2, 2], &[4, 2, 2], &[1, 1, 2, 2], &[], &[1, 0, 2], &[3, 2, 0], &[0, 2, 2]]
    {
        let error = writer.add_image("x", &Tensor::zeros(shape, &device).unwrap(), 0).unwrap_err();
        assert!(matches!(error, Error::Shape { op: "add_image", .. }), "{error}");
        assert!(error.to_string().contains(&format!("shape {shape:?}")), "{error}");
    }
    let ids = Tensor::from_ids(&[1, 2, 3, 4], [1, 2, 2], &device).unwrap();
    assert!(matches!(writer.add_image("x", &ids, 0), Err(Error::Shape { op: "add_image", .. })));
    assert!(matches!(writer.add_histogram("x", &ids, 0), Err(Error::Shape { op: "add_histogram", .. })));
    assert!(logged(dir.path()).is_empty());
}

#[test]
fn a_directory_that_cannot_be_is_an_error_and_each_writer_has_its_file() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("file"), "kept").unwrap();
    let error = SummaryWriter::new(dir.path().join("file/run")).unwrap_err();
    assert!(matches!(&error, Error::File { path, .. } if path.ends_with("file/run")), "{error}");
    assert!(error.to_string().contains("can't be created"), "{error}");
    assert!(SummaryWriter::new(dir.path().join("file")).is_err());
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"kept");

    let run = dir.path().join("run");
    let writers: Vec<_> = (0..3).map(|_| SummaryWriter::new(&run).unwrap()).collect();
    let mut files: Vec<_> = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), writers.len());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let seconds = name.strip_prefix("events.out.tfevents.").unwrap().split('.').next().unwrap();
        assert!((now() - seconds.parse::<f64>().unwrap()).abs() < 60.0, "{name}");
        assert!(name.contains(&format!(".{}.", std::process::id())), "{name}");
        assert_eq!(events(&file).0[0].text(3), "brain.Event:2");
    }
}

/// Set for the child process of the next test, in which no file may grow past 512 bytes.
#[cfg(unix)]
const CHILD: &str = "GRISTMILL_TEST_CHILD";

#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_and_what_was_written_is_kept() {
    if let Some(path) = std::env::var_os(CHILD) {
        let mut writer = SummaryWriter::new(path).unwrap();
        let written = (0..100).take_while(|&step| writer.add_scalar("loss", 0.5, step).is_ok()).count();
        assert!((1..20).contains(&written), "{written}");
        for error in [writer.add_scalar("loss", 0.5, 0), writer.flush()].map(Result::unwrap_err) {
            assert!(matches!(&error, Error::File { .. }), "{error}");
            assert!(error.to_string().contains("can't be written"), "{error}");
        }
        return;
    }
    let dir = tempdir().unwrap();
    // The limit's signal is ignored, so that writing fails instead, as on a full disk.
    let mut child = std::process::Command::new("sh");
    child.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "a_full_disk_is_an_error_and_what_was_written_is_kept"]).env(CHILD, dir.path());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let (events, incomplete) = events(&file);
    assert!(incomplete > 0);
    let steps: Vec<u64> = events[1..].iter().map(|event| summary(event).0).collect();
    assert_eq!(steps, (0..steps.len() as u64).collect::<Vec<_>>());
}
