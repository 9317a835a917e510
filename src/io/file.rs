//! Writing whole files atomically.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// Writes a file, as [`std::fs::write`] does, but atomically: a reader sees the old content or the new, also after a
/// crash, and a failure leaves the old file as it was.
///
/// The content goes to a temporary file with a random name in the same directory, is flushed to the disk, and is renamed.
/// Symbolic links are followed, and the file that they lead to is replaced, or created. A replaced file's permissions are
/// kept; a new file gets those that the umask allows. Only a regular file is replaced, and only if it may be written.
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
/// [`Error::File`]: there is no such directory, `path` names something else than a regular file, or writing fails. Where
/// all was written and only the rename fails, the temporary file stays, and the message says where.
pub fn write_atomic(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    let mut file = AtomicFile::create(path.as_ref())?;
    file.write(content.as_ref())?;
    file.commit()
}

/// Checks that [`write_atomic`], [`save`](super::save) and the like can write a file: before work whose result goes there.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// gristmill::io::check_writable(dir.path().join("model.safetensors"))?;
/// assert!(gristmill::io::check_writable(dir.path().join("no/such/directory/model.safetensors")).is_err());
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// Those that [`write_atomic`] has before it writes. A disk that fills up later shows only then.
pub fn check_writable(path: impl AsRef<Path>) -> Result<()> {
    AtomicFile::create(path.as_ref()).map(drop)
}

/// A file that replaces another one when it is complete. Dropped before, it is removed.
pub(crate) struct AtomicFile {
    /// As the caller names it, for errors.
    path: PathBuf,
    /// Where its symbolic links lead.
    target: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// An empty temporary file beside the one that `path` leads to.
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
            // Renaming asks for no permission on the file itself, but who may not write it may not replace it either.
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

    /// Appends to it.
    ///
    /// # Errors
    /// Such as a full disk.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| self.error(error))
    }

    /// Puts it in the place of the old one.
    ///
    /// # Errors
    /// It can't be flushed, or not renamed: then it stays, and the message says where.
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
        // So that the new name survives a power cut; not every file system lets a directory be flushed.
        if cfg!(unix) {
            let _ = File::open(directory(&target)).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }

    fn error(&self, error: std::io::Error) -> Error {
        Error::file(&self.path, format!("can't be written: {error}"))
    }
}

/// Where symbolic links lead that end at a file that does not exist yet. That they go in no circle is known.
fn follow(path: &Path) -> PathBuf {
    let mut target = path.to_path_buf();
    // Linux follows 40; so many are left only if somebody changes them meanwhile.
    for _ in 0..40 {
        let Ok(link) = fs::read_link(&target) else { break };
        target = directory(&target).join(link);
    }
    target
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != OsStr::new("")).unwrap_or(Path::new("."))
}

/// An empty file with a random name. It is private until it has the permissions of the `old` file.
fn temporary(directory: &Path, old: Option<&Metadata>) -> std::io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    // Without the file's own name, which may be as long as names can be.
    builder.prefix(".gristmill-").suffix(".tmp").rand_bytes(12);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let Some(old) = old else {
            return builder.permissions(fs::Permissions::from_mode(0o666)).tempfile_in(directory);
        };
        let file = builder.tempfile_in(directory)?;
        // Another owner can be kept by root alone. Before the permissions, which a change of owner would cut.
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

/// What something is that is no regular file.
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
        fs::create_dir(&path).unwrap(); // no file replaces a directory
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
