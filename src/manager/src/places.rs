//! Where things are kept, and who may change them at a time.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sys::fs::FlockOperation;

/// The folders that this program works with.
#[derive(Debug, Clone)]
pub struct Places {
    /// Definitions, images, templates and networks.
    pub data: PathBuf,
}

/// Folder in a container's folder that only root may look into. What the container changed has programs with set-user-id that
/// its root made: nobody else on the host may run them. The container's folder itself has to be passable, for root of a user
/// namespace has to reach the place where its root file system is mounted.
pub const CLOSED: &str = "own";
/// What a container changed: the upper layer, in its folder.
pub const UPPER: &str = "own/upper";
/// The kernel's working folder beside it.
pub const WORK: &str = "own/work";

/// Longest name of a container. The name becomes a host name, a cgroup, and with a prefix a temporary folder.
const NAME_MAX: usize = 64;

/// Checks a name: 1 to 64 letters, digits, `_`, `-` and `.`, the first one a letter or a digit.
///
/// # Errors
/// What is wrong with it.
pub fn validate_name(what: &str, name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_MAX {
        bail!("{what} {name:?} must have 1 to {NAME_MAX} characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
        bail!("{what} {name:?} must begin with a letter or digit and have only letters, digits, _ - and .");
    }
    Ok(())
}

/// Checks the name of a lock of this program's own: a dot, then what a name may have.
fn validate_own(name: &str) -> Result<()> {
    let rest = name.strip_prefix('.').unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) || !rest.chars().all(fits) {
        bail!("lock {name:?} must begin with a dot and a letter or digit");
    }
    Ok(())
}

impl Places {
    /// The folder of all containers.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// The folder of one container.
    #[must_use]
    pub fn container(&self, name: &str) -> PathBuf {
        self.containers().join(name)
    }

    /// The folder of all templates.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// Takes the lock of one container for as long as the result lives. The lock is a file beside the container's folder,
    /// so that it outlives removals and renames.
    ///
    /// # Errors
    /// It is no name of a container; the folder cannot be written; the wait was interrupted.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        validate_name("container", name)?;
        self.flock(name, FlockOperation::LockExclusive)
    }

    /// Takes the lock of one container if nobody has it.
    ///
    /// # Errors
    /// It is no name of a container; the folder cannot be written.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        validate_name("container", name)?;
        self.try_flock(name)
    }

    /// Takes a lock of this program's own, whose name begins with a dot so that it is no container's.
    ///
    /// # Errors
    /// As [`Places::lock`].
    pub fn lock_own(&self, name: &str) -> Result<Lock> {
        validate_own(name)?;
        self.flock(name, FlockOperation::LockExclusive)
    }

    /// Takes one that any number of holders may share, and that excludes those of [`Places::lock_own`].
    ///
    /// # Errors
    /// As [`Places::lock`].
    pub fn lock_own_shared(&self, name: &str) -> Result<Lock> {
        validate_own(name)?;
        self.flock(name, FlockOperation::LockShared)
    }

    /// Takes a lock of this program's own if nobody has it.
    ///
    /// # Errors
    /// As [`Places::try_lock`].
    pub fn try_lock_own(&self, name: &str) -> Result<Option<Lock>> {
        validate_own(name)?;
        self.try_flock(name)
    }

    fn flock(&self, name: &str, operation: FlockOperation) -> Result<Lock> {
        let file = self.open_lock(name)?;
        sys::fs::flock(file.as_fd(), operation).with_context(|| format!("cannot lock {name:?}"))?;
        Ok(Lock { _file: file })
    }

    fn try_flock(&self, name: &str) -> Result<Option<Lock>> {
        let file = self.open_lock(name)?;
        match sys::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error.is(sys::Errno::WOULDBLOCK) => Ok(None),
            other => other.map(|()| Some(Lock { _file: file })).with_context(|| format!("cannot lock {name:?}")),
        }
    }

    /// The file that [`Places::lock`] locks.
    #[must_use]
    pub fn lock_file(&self, name: &str) -> PathBuf {
        self.data.join("locks").join(name)
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        let path = self.lock_file(name);
        make_private_dir(&self.data.join("locks"))?;
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        open.with_context(|| format!("cannot open {}", path.display()))
    }
}

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Makes a folder that others may not look into, with its parents.
///
/// # Errors
/// What the kernel says, with the path.
pub fn make_private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("cannot make folder {}", path.display()))
}

/// Makes a folder that only root may look into, with its parents.
///
/// # Errors
/// What the kernel says, with the path.
pub fn make_closed_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent() {
        make_private_dir(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make folder {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The text of a file; empty where it is not there.
///
/// # Errors
/// What the kernel says, with the path.
pub fn read_or_empty(path: &str) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// Removes a file or a link, if it is there.
///
/// # Errors
/// What the kernel says, with the path.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The program of a name, by `PATH` and the folders of the administrator.
#[must_use]
pub fn find_program(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    sys::fs::find_executable(&format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"), name)
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Root alone: variables of a container's process may be secrets.
    Owner,
    /// Everybody, also the users of a container.
    Everybody,
}

impl Readers {
    /// The mode of such a file, whatever the umask is.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
        }
    }
}

/// Replaces a file's content so that a crash leaves the old or the new one, whole.
///
/// # Errors
/// What the kernel says, with the path.
pub fn write_whole(path: &Path, bytes: &[u8], readers: Readers) -> Result<()> {
    write(path, bytes, readers, Lasts::PowerCut)
}

/// Replaces a file's content so that whoever reads sees the old or the new one, whole, and waits for no disk: for what each start
/// makes anew. A power cut may leave nothing of it, or zeros ([`is_lost`]).
///
/// # Errors
/// What the kernel says, with the path.
pub fn write_for_run(path: &Path, bytes: &[u8], readers: Readers) -> Result<()> {
    // What takes the name of another file costs the file system more than all else here.
    if is_content(path, bytes) { Ok(()) } else { write(path, bytes, readers, Lasts::Boot) }
}

/// Whether a file has this content.
#[must_use]
pub fn is_content(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|there| there == bytes)
}

/// Whether a power cut has taken the content of a file that [`write_for_run`] wrote.
#[must_use]
pub fn is_lost(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The end of the name of a file that is still being written.
pub const UNFINISHED: &str = ".new";

/// How long what is written has to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    /// Until the machine boots again.
    Boot,
    /// Beyond a power cut.
    PowerCut,
}

fn write(path: &Path, bytes: &[u8], readers: Readers, lasts: Lasts) -> Result<()> {
    let temporary = path.with_extension(&UNFINISHED[1..]);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(readers.mode()))?;
        file.write_all(bytes)?;
        if lasts == Lasts::Boot {
            return fs::rename(&temporary, path);
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    let written = write().with_context(|| format!("cannot write {}", path.display()));
    if written.is_err() && temporary.exists() {
        fs::remove_file(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
    }
    written
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_paths_or_hidden_are_refused() {
        for name in ["web1", "a", "A.b_c-d", "9", &"x".repeat(64)] {
            validate_name("container", name).unwrap();
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "-a", "ä", &"x".repeat(65)] {
            validate_name("container", name).unwrap_err();
        }
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("definition.json");
        for text in ["one", "two"] {
            write_whole(&path, text.as_bytes(), Readers::Owner).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        write_whole(&path, b"three", Readers::Everybody).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_no_path_to_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().join("data") };
        for name in ["../../x", "a/b", ".changes", ""] {
            places.lock(name).unwrap_err();
            places.try_lock(name).unwrap_err();
        }
        for name in ["web1", "./../x", ".", ".."] {
            places.lock_own(name).unwrap_err();
        }
        assert!(!places.data.exists());
        places.lock("web1").unwrap();
        places.lock_own(".changes").unwrap();
    }
}
