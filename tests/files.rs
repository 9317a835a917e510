//! Writing files: an old file is never lost, and anything but a regular file is left alone.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests
#![cfg(unix)]

use gristmill::io::{self, Metadata};
use gristmill::{Device, Tensor};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use tempfile::{TempDir, tempdir};

/// Saves one tensor.
fn save(path: &Path) -> gristmill::Result<()> {
    io::save(path, &[("w".to_string(), Tensor::ones([3], &Device::cpu())?)], &Metadata::new())
}

/// Asserts that a file holds what [`save`] writes.
fn assert_saved(path: &Path) {
    let (tensors, _) = io::load(path, &Device::cpu()).unwrap();
    assert_eq!(tensors[0].1.to_vec().unwrap(), [1.0; 3]);
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_stale_temporary_file_is_left_alone_and_saving_succeeds() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // Files that a killed process with the same id may have left, as in another container.
    let stale: Vec<_> = (0..1000)
        .map(|count| dir.path().join(format!(".model.safetensors.{}-{count}.tmp", std::process::id())))
        .collect();
    stale.iter().for_each(|path| fs::write(path, "not ours").unwrap());
    for _ in 0..3 {
        save(&path).unwrap();
        assert_saved(&path);
    }
    assert!(stale.iter().all(|path| fs::read(path).unwrap() == b"not ours"));
    assert_eq!(names(&dir).len(), stale.len() + 1);
}

#[test]
fn symbolic_links_are_written_through() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("runs")).unwrap();
    let file = dir.path().join("runs/model.safetensors");
    let (first, second) = (dir.path().join("runs/latest"), dir.path().join("link"));
    // Relative links are relative to their own directory.
    symlink("model.safetensors", &first).unwrap();
    symlink("runs/latest", &second).unwrap();
    // At first the links lead to no file, so it is created; then to a file, which is replaced.
    for _ in 0..2 {
        save(&second).unwrap();
        assert_saved(&file);
        assert_eq!(fs::read_link(&second).unwrap(), Path::new("runs/latest"));
        assert_eq!(fs::read_link(&first).unwrap(), Path::new("model.safetensors"));
        fs::write(&file, "old").unwrap();
    }
    let lost = dir.path().join("lost");
    symlink("no/such/directory", &lost).unwrap();
    let message = save(&lost).unwrap_err().to_string();
    assert!(message.contains("there is no directory"), "{message}");
    let circle = dir.path().join("circle");
    symlink("circle", &circle).unwrap();
    let message = save(&circle).unwrap_err().to_string();
    assert!(message.contains("can't be written"), "{message}");
    assert!(fs::symlink_metadata(&circle).unwrap().is_symlink());
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_new_one_has_the_umask_s() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    save(&path).unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode(&path), mode(&plain));
    for bits in [0o600, 0o640, 0o664, 0o755] {
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        save(&path).unwrap();
        assert_saved(&path);
        assert_eq!(mode(&path), bits);
    }
}

#[test]
fn special_files_are_refused_and_left_alone() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(path("socket")).unwrap();
    fs::create_dir(path("directory")).unwrap();
    symlink("fifo", path("link")).unwrap();
    let before = names(&dir);
    for (name, kind) in
        [("fifo", "a FIFO"), ("socket", "a socket"), ("directory", "a directory"), ("link", "a FIFO")]
    {
        let wanted = format!("is {kind}, not a regular file");
        for result in [save(&path(name)), io::write_atomic(path(name), "x"), io::check_writable(path(name))] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(&wanted), "{message}");
        }
    }
    let kind = |name: &str| fs::symlink_metadata(path(name)).unwrap().file_type();
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket() && kind("link").is_symlink());
    assert_eq!(names(&dir), before);
}

#[test]
fn an_unwritable_path_is_reported_beforehand() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("file"), "old").unwrap();
    io::check_writable(path("file")).unwrap();
    io::check_writable(path("new")).unwrap();
    assert_eq!(names(&dir), ["file"], "checking leaves nothing behind");
    assert_eq!(fs::read(path("file")).unwrap(), b"old");
    for (name, part) in [("none/model", "there is no directory"), ("file/model", "can't be written")] {
        let message = io::check_writable(path(name)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let message = io::check_writable("").unwrap_err().to_string();
    assert!(message.contains("names no file"), "{message}");
    // A name of maximum length; the check adds no temporary suffix to it.
    io::check_writable(path(&"n".repeat(255))).unwrap();
}

/// Set for the child process of the next test, in which no file may grow past 512 bytes.
const CHILD: &str = "GRISTMILL_TEST_CHILD";

#[test]
fn a_full_disk_leaves_the_old_file_and_no_temporary_one() {
    if let Some(path) = std::env::var_os(CHILD) {
        let error = io::write_atomic(path, [7; 4096]).unwrap_err();
        assert!(error.to_string().contains("can't be written"), "{error}");
        return;
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("model");
    fs::write(&path, "old").unwrap();
    // The limit's signal is ignored, so that writing fails instead, as on a full disk.
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "a_full_disk_leaves_the_old_file_and_no_temporary_one"]).env(CHILD, &path);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((names(&dir), fs::read(&path).unwrap()), (vec!["model".to_string()], b"old".to_vec()));
}
