//! Atomic writes of whole files.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// Writes a file like [`std::fs::write`], but atomically.
///
/// A reader sees either the old or the new content, even after a crash. A failure leaves the old file unchanged.
///
/// The content is written to a temporary file with a random name in the same directory, flushed to disk, and renamed.
/// Symbolic links are followed: their target is replaced or created. A replaced file keeps its permissions; a new
/// file's follow the umask. Only a writable regular file is replaced.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join("report.txt");
/// gristmill::io::write_atomic(&path, "all is well")?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"all is well");
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if the directory does not exist, `path` is not a regular file, or writing fails. If only the final
/// rename fails, the temporary file is kept, and the message has its path.
pub fn write_atomic(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    let mut file = AtomicFile::create(path.as_ref())?;
    file.write(content.as_ref())?;
    file.commit()
}

/// Checks that [`write_atomic`] or [`save`](super::save) can write a file, before the work whose result goes there.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// gristmill::io::check_writable(dir.path().join("model.safetensors"))?;
/// assert!(gristmill::io::check_writable(dir.path().join("no/such/directory/model.safetensors")).is_err());
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// The errors of [`write_atomic`] before it writes. A full disk is not detected.
pub fn check_writable(path: impl AsRef<Path>) -> Result<()> {
    AtomicFile::create(path.as_ref()).map(drop)
}

/// A temporary file that replaces another file on `commit`. It is removed if dropped before.
pub(crate) struct AtomicFile {
    /// The caller's path, for error messages.
    path: PathBuf,
    /// The path with symbolic links resolved.
    target: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Creates an empty temporary file in the directory of the target.
    ///
    /// # Errors
    /// As [`write_atomic`].
    pub(crate) fn create(path: &Path) -> Result<AtomicFile> {
        let fail = |error: std::io::Error| Error::file(path, format!("can't be written: {error}"));
        if path.file_name().is_none() && !path.exists() {
            return Err(Error::file(path, "names no file"));
        }
        let (target, old) = match fs::metadata(path) {
            Ok(old) if !old.is_file() => {
                return Err(Error::file(path, format!("is {}, not a regular file", kind(&old))));
            }
            Ok(old) => (fs::canonicalize(path).map_err(fail)?, Some(old)),
            Err(error) if error.kind() == ErrorKind::NotFound => (follow(path), None),
            Err(error) => return Err(fail(error)),
        };
        if old.is_some() {
            // A rename needs no permission on the file itself, but a read-only file must not be replaced.
            OpenOptions::new().write(true).open(&target).map_err(fail)?;
        }
        let directory = directory(&target);
        if !directory.is_dir() {
            let message = format!("can't be written: there is no directory {}", directory.display());
            return Err(Error::file(path, message));
        }
        let file = temporary(directory, old.as_ref()).map_err(fail)?;
        Ok(AtomicFile { path: path.to_path_buf(), target, out: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Writing fails, for example because the disk is full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| self.error(error))
    }

    /// Flushes the file and renames it to the target.
    ///
    /// # Errors
    /// It can't be flushed or renamed. If the rename fails, the temporary file is kept, and the message has its path.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.out.flush().map_err(|error| self.error(error))?;
        self.out.get_ref().as_file().sync_all().map_err(|error| self.error(error))?;
        let AtomicFile { path, target, out } = self;
        let fail = |error: std::io::Error| Error::file(&path, format!("can't be written: {error}"));
        let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
        if let Err(failed) = file.persist(&target) {
            let mut file = failed.file;
            file.disable_cleanup(true);
            let kept = format!("the new content is in {}", file.path().display());
            return Err(Error::file(&path, format!("can't be replaced: {}; {kept}", failed.error)));
        }
        // Makes the rename survive a power cut. Some file systems can't flush directories, so errors are ignored.
        if cfg!(unix) {
            let _ = File::open(directory(&target)).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }

    fn error(&self, error: std::io::Error) -> Error {
        Error::file(&self.path, format!("can't be written: {error}"))
    }
}

/// Resolves symbolic links to a file that does not exist yet. The caller has ruled out cycles.
fn follow(path: &Path) -> PathBuf {
    let mut target = path.to_path_buf();
    // Linux follows 40 at most. More can occur only if the links change meanwhile.
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&target) else { break };
        target = directory(&target).join(link);
    }
    target
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != OsStr::new("")).unwrap_or(Path::new("."))
}

/// Creates an empty file with a random name, private until it gets the permissions of the `old` file.
fn temporary(directory: &Path, old: Option<&Metadata>) -> std::io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    // The target's name is not part of it, because it may already have the maximum length.
    builder.prefix(".gristmill-").suffix(".tmp").rand_bytes(12);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let Some(old) = old else {
            return builder.permissions(fs::Permissions::from_mode(0o666)).tempfile_in(directory);
        };
        let file = builder.tempfile_in(directory)?;
        // Only root can keep another owner, so errors are ignored. Before setting permissions, because chown clears
        // some bits.
        let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        file.as_file().set_permissions(old.permissions())?;
        Ok(file)
    }
    #[cfg(not(unix))]
    {
        let _ = old;
        builder.tempfile_in(directory)
    }
}

/// Describes a path that is not a regular file.
fn kind(found: &Metadata) -> &'static str {
    if found.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    "something else"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_renamed_is_kept_and_the_error_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        fs::create_dir(&path).unwrap(); // a file cannot replace a directory
        let message = file.commit().unwrap_err().to_string();
        let (_, kept) = message.split_once("the new content is in ").unwrap();
        assert!(message.contains("can't be replaced"), "{message}");
        assert_eq!(fs::read(kept).unwrap(), b"new");
        assert!(Path::new(kept).starts_with(dir.path()), "{message}");
    }

    #[test]
    fn what_is_not_complete_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        write_atomic(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
