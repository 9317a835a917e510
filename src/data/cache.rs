//! Data sets unpacked into the user's cache, for parsers that need plain files on disk.

use std::ffi::OsString;
use std::fs;
#[cfg(unix)]
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::idx::{encode_idx, parse_idx};
use super::mnist::{IDX_FILES, Named, Split, load_idx, splits};
use crate::error::{Error, Result};
use crate::io;

/// The directory for files that can be recreated: `gristmill` in the user's cache directory.
///
/// The cache directory is `$XDG_CACHE_HOME`, else `$HOME/.cache`; on Windows `%LOCALAPPDATA%`. The returned directory
/// may not exist yet.
///
/// If none of these is an absolute path, returns a private directory in the system's temporary directory, and creates
/// it if missing.
///
/// ```
/// # use gristmill::data;
/// let dir = data::cache_dir()?; // such as ~/.cache/gristmill
/// assert!(dir.is_absolute());
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if that private directory can't be created, belongs to another user, or is writable by others.
pub fn cache_dir() -> Result<PathBuf> {
    match cache_dir_from(|name| std::env::var_os(name)) {
        Some(cache) => Ok(cache.join("gristmill")),
        None => private_dir(&std::env::temp_dir()),
    }
}

/// A private directory inside `directory`, where any user may create any name.
#[cfg(unix)]
fn private_dir(directory: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let fail = |path: &Path, message: String| {
        Error::file(path, format!("{message}; set XDG_CACHE_HOME to a directory of your own"))
    };
    // The owner of a new file is this user.
    let user = tempfile::tempfile_in(directory).and_then(|file| file.metadata());
    let user = user.map_err(|error| fail(directory, format!("cannot be written: {error}")))?.uid();
    let path = directory.join(format!("gristmill-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(fail(&path, format!("cannot create: {error}")));
        }
        _ => {}
    }
    // Without following a symbolic link, which may be another user's.
    let found = fs::symlink_metadata(&path).map_err(|error| fail(&path, error.to_string()))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o022 != 0 {
        return Err(fail(&path, "is not a directory of yours that nobody else may write to".to_string()));
    }
    Ok(path)
}

/// Here the temporary directory belongs to the user.
#[cfg(not(unix))]
fn private_dir(directory: &Path) -> Result<PathBuf> {
    Ok(directory.join("gristmill"))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The XDG specification says to ignore relative paths.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if cfg!(windows) {
        return absolute("LOCALAPPDATA");
    }
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

/// Checks the data set in `source`, as [`load_idx`] does, and unpacks its four files into `cache`.
///
/// The files get the names [`IDX_FILES`]. Creates the directory `cache`, and returns it.
///
/// Files that already have the right contents are not touched; others are replaced. Each file is written atomically,
/// even if the process is killed or two processes unpack at once. Use one `cache` per source.
///
/// ```
/// # use gristmill::data::{self, IDX_FILES};
/// # let dir = tempfile::tempdir().unwrap();
/// # let images = [&[0u8, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255]].concat();
/// # let labels = [0u8, 0, 8, 1, 0, 0, 0, 1, 7].to_vec();
/// # for (name, bytes) in IDX_FILES.iter().zip([&images, &labels, &images, &labels]) {
/// #     std::fs::write(dir.path().join(name), bytes).unwrap();
/// # }
/// # let (source, cache) = (dir.path(), dir.path().join("cache"));
/// let plain = data::unpack_idx(source, &cache)?;
/// assert_eq!(plain, cache);
/// assert!(IDX_FILES.iter().all(|name| cache.join(name).is_file()));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`load_idx`], before anything is written; [`Error::File`] if the cache cannot be written.
pub fn unpack_idx(source: impl AsRef<Path>, cache: impl AsRef<Path>) -> Result<PathBuf> {
    store(load_idx(source)?, cache.as_ref())
}

/// As [`unpack_idx`], from four files in memory, plain or gzip, in the order of [`IDX_FILES`].
///
/// For data sets that a program embeds.
///
/// ```
/// # use gristmill::data;
/// # let dir = tempfile::tempdir().unwrap();
/// # let images = [&[0u8, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255]].concat();
/// # let labels = [0u8, 0, 8, 1, 0, 0, 0, 1, 7].to_vec();
/// # let cache = dir.path().join("cache");
/// // `images` and `labels` are files by `include_bytes!`, of one image each.
/// data::unpack_idx_bytes([&images, &labels, &images, &labels], &cache)?;
/// let (train, _) = data::load_idx(&cache)?;
/// assert_eq!((train.len(), train.labels), (1, vec![7]));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// As [`unpack_idx`]; a damaged file has its name in [`IDX_FILES`].
pub fn unpack_idx_bytes(files: [&[u8]; 4], cache: impl AsRef<Path>) -> Result<PathBuf> {
    let parse = |at: usize| {
        let path = PathBuf::from(IDX_FILES[at]);
        match parse_idx(files[at]) {
            Ok(idx) => Ok(Named { path, idx }),
            Err(message) => Err(Error::file(path, message)),
        }
    };
    store(splits([parse(0)?, parse(1)?, parse(2)?, parse(3)?])?, cache.as_ref())
}

fn store((train, test): (Split, Split), cache: &Path) -> Result<PathBuf> {
    fs::create_dir_all(cache).map_err(|error| Error::file(cache, format!("cannot create: {error}")))?;
    for (split, names) in [(train, &IDX_FILES[..2]), (test, &IDX_FILES[2..])] {
        let images = encode_idx(&[split.len(), split.rows, split.cols], &split.images);
        let labels = encode_idx(&[split.len()], &split.labels);
        for (name, bytes) in names.iter().zip([images, labels]) {
            let path = cache.join(name);
            if !holds(&path, &bytes) {
                // Another process may have written the same file.
                io::write_atomic(&path, &bytes)
                    .or_else(|error| if holds(&path, &bytes) { Ok(()) } else { Err(error) })?;
            }
        }
    }
    Ok(cache.to_path_buf())
}

/// Whether the file at `path` exists and contains `bytes`.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|found| found == bytes)
}

#[cfg(test)]
mod tests {
    use super::super::mnist::tests::{Scratch, repository_mnist, small_set};
    use super::*;

    #[test]
    fn unpacks_mnist_once() {
        let scratch = Scratch::new("unpack");
        let cache = unpack_idx(repository_mnist(), scratch.0.join("deep/mnist")).unwrap();
        let lengths = IDX_FILES.map(|name| fs::metadata(cache.join(name)).unwrap().len());
        assert_eq!(lengths, [47_040_016, 60_008, 7_840_016, 10_008]);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 4, "no temporary file stays");
        assert_eq!(load_idx(&cache).unwrap(), load_idx(repository_mnist()).unwrap());

        let written = || IDX_FILES.map(|name| fs::metadata(cache.join(name)).unwrap().modified().unwrap());
        let first = written();
        unpack_idx(repository_mnist(), &cache).unwrap();
        assert_eq!(written(), first, "whole files are left alone");
    }

    #[test]
    fn mends_a_damaged_cache() {
        let scratch = Scratch::new("mend");
        let files = small_set();
        let unpack = || unpack_idx_bytes([&files[0], &files[1], &files[2], &files[3]], &scratch.0);
        unpack().unwrap();
        for (name, bytes) in IDX_FILES.iter().zip(&files) {
            let path = scratch.0.join(name);
            let mut changed = bytes.clone();
            *changed.last_mut().unwrap() ^= 1;
            for damage in [&bytes[..bytes.len() - 1], &[], &changed] {
                fs::write(&path, damage).unwrap();
                unpack().unwrap();
                assert_eq!(&fs::read(&path).unwrap(), bytes);
            }
            fs::remove_file(&path).unwrap();
            unpack().unwrap();
            assert_eq!(&fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn many_unpack_at_once() {
        let scratch = Scratch::new("race");
        let files = small_set();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        unpack_idx_bytes([&files[0], &files[1], &files[2], &files[3]], &scratch.0).unwrap();
                        load_idx(&scratch.0).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 4);
    }

    #[test]
    fn an_unwritable_cache_is_an_error() {
        let scratch = Scratch::new("unwritable");
        let blocked = scratch.0.join("file");
        fs::write(&blocked, "not a directory").unwrap();
        let files = small_set();
        let error = unpack_idx_bytes([&files[0], &files[1], &files[2], &files[3]], blocked.join("cache"));
        assert!(error.unwrap_err().to_string().contains("cannot create"));
        // A directory is not replaced by a file, and no temporary file remains.
        fs::create_dir(scratch.0.join(IDX_FILES[0])).unwrap();
        let error = unpack_idx_bytes([&files[0], &files[1], &files[2], &files[3]], &scratch.0);
        assert!(error.unwrap_err().to_string().contains("is a directory, not a regular file"));
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2);
    }

    #[test]
    fn damage_in_memory_is_named() {
        let files = small_set();
        let error = unpack_idx_bytes([&files[0], &files[1], &files[2], &[0, 0]], "unused").unwrap_err();
        assert!(error.to_string().starts_with("t10k-labels-idx1-ubyte: cut short"), "{error}");
    }

    #[test]
    #[cfg(not(windows))]
    fn the_cache_directory_follows_the_environment() {
        let with = |xdg: &str, home: &str| {
            cache_dir_from(|name| match name {
                "XDG_CACHE_HOME" if !xdg.is_empty() => Some(xdg.into()),
                "HOME" if !home.is_empty() => Some(home.into()),
                _ => None,
            })
        };
        assert_eq!(with("/x", "/h"), Some("/x".into()));
        assert_eq!(with("", "/h"), Some("/h/.cache".into()));
        assert_eq!(with("relative", "/h"), Some("/h/.cache".into()));
        assert_eq!(with("", ""), None);
    }

    #[test]
    #[cfg(unix)]
    fn a_cache_that_others_can_change_is_not_trusted() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
        let scratch = Scratch::new("trust");
        let cache = private_dir(&scratch.0).unwrap();
        assert_eq!(fs::metadata(&cache).unwrap().mode() & 0o777, 0o700);
        assert_eq!(private_dir(&scratch.0), Ok(cache.clone()), "the same one the next time");
        let refused = || {
            let message = private_dir(&scratch.0).unwrap_err().to_string();
            assert!(message.contains("nobody else") && message.contains("XDG_CACHE_HOME"), "{message}");
        };
        for mode in [0o770, 0o707, 0o777] {
            fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).unwrap();
            refused();
        }
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&scratch.0).unwrap();
        // Only root can change the owner.
        if chown(&cache, Some(fs::metadata(&cache).unwrap().uid() + 1), None).is_ok() {
            refused();
        }
        fs::remove_dir(&cache).unwrap();
        fs::create_dir(scratch.0.join("elsewhere")).unwrap();
        symlink("elsewhere", &cache).unwrap();
        refused();
        fs::remove_file(&cache).unwrap();
        fs::write(&cache, "").unwrap();
        refused();
    }
}
