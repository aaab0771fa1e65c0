//! Root file systems with an init, made once on a machine, and people at consoles.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::defined::Defined;
use crate::{Running, host};

/// How long a system may take to boot.
const BOOT: Duration = Duration::from_secs(60);

const SCRIPT: &str = include_str!("systems.sh");
const SERVICES: &str = include_str!("services.sh");

/// The folder with a root file system for each init, made by the first who asks; `None` where it cannot be made, for want of
/// mmdebstrap, of a network or of root.
///
/// It is below `XDG_CACHE_HOME`, else `~/.cache`, for as long as the script that makes it is the same. Where `DISKS` has
/// its name and the key of that script, it came as a disk.
pub fn roots() -> Option<PathBuf> {
    kept("systems", &[SCRIPT], &[])
}

/// The same with systems that have services: `postgres`, and `engines` for docker and podman.
pub fn services() -> Option<PathBuf> {
    kept("services", &[SERVICES, SCRIPT], &[&roots()?.join("systemd")])
}

/// The folder that the first of some scripts makes. All of them decide whether it is still the right one.
fn kept(kind: &str, scripts: &[&str], args: &[&Path]) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let bytes = scripts.iter().flat_map(|script| script.bytes());
    let key =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let as_disk = format!("{kind}:{key:x}");
    if set("DISKS").is_some_and(|disks| disks.to_string_lossy().split(' ').any(|disk| disk == as_disk)) {
        return Some(Path::new("/srv").join(kind));
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    let cache = cache.join("skep").join(kind);
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/mmdebstrap").exists() {
        return None;
    }
    fs::create_dir_all(&cache).expect("make the cache");
    let lock = File::create(cache.join("lock")).expect("make the lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the cache");
    let folder = cache.join(format!("{key:x}"));
    let failed = folder.with_extension("failed");
    if !folder.exists() && !was_just_now(&failed) {
        for entry in fs::read_dir(&cache).expect("read the cache").flatten() {
            if entry.path().is_dir() {
                fs::remove_dir_all(entry.path()).expect("remove what is old");
            }
        }
        make(&cache, scripts[0], args, &folder, &failed);
    }
    folder.exists().then_some(folder)
}

/// The root file system with the newest systemd of Debian; `None` where it cannot be made.
pub fn newest() -> Option<PathBuf> {
    roots().map(|roots| roots.join("newest")).filter(|root| root.exists())
}

/// Half of them must not be taken for all.
fn make(cache: &Path, script: &str, args: &[&Path], folder: &Path, failed: &Path) {
    let unfinished = cache.join("unfinished");
    let log = File::create(cache.join("log")).expect("make the log");
    let mut command = Command::new("sh");
    command.args(["-euc", script, "roots"]).arg(&unfinished).args(args).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("share the log")).stderr(log);
    if command.status().expect("run sh").success() {
        fs::rename(&unfinished, folder).expect("name the folder");
    } else {
        fs::write(failed, "").expect("remember the failure");
    }
}

/// Whether another test of this run has tried in vain.
fn was_just_now(failed: &Path) -> bool {
    let age = fs::metadata(failed).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age < Duration::from_secs(600))
}

/// Somebody at a terminal of a container that runs: `skep console`, whose input is a pseudo terminal.
#[derive(Debug)]
pub struct AtConsole {
    joined: Running,
    keyboard: OwnedFd,
    /// What had come when the last line was typed.
    before: usize,
}

impl AtConsole {
    /// Joins the console of a container as soon as it runs.
    ///
    /// # Panics
    /// When it does not run in time.
    #[track_caller]
    pub fn join(d: &Defined<'_>, name: &str) -> AtConsole {
        AtConsole::join_with(d, name, &[])
    }

    /// The same, with options: `--tty N` is another terminal.
    ///
    /// # Panics
    /// As [`AtConsole::join`].
    #[track_caller]
    pub fn join_with(d: &Defined<'_>, name: &str, options: &[&str]) -> AtConsole {
        let runs = || d.listed(name)["state"] == "running";
        assert!(host::within(BOOT, runs), "{name} does not run: {}", d.listed(name));
        let multiplexer = sys::fs::open("/dev/pts/ptmx", sys::fs::OFlags::PATH).expect("open the multiplexer");
        let proc = sys::ProcFs::open().expect("open /proc");
        let pty = sys::terminal::open_pty(&proc, multiplexer.as_fd()).expect("make a terminal");
        let call = d.prepare(&[&["console", name], options].concat()).stdin(pty.slave);
        let joined = call.deadline(Duration::from_secs(240)).spawn();
        let mut console = AtConsole { joined, keyboard: pty.master, before: 0 };
        // What is typed before the terminal is raw would be echoed and collected by it.
        let raw = || console.joined.stderr().contains("leaves");
        assert!(host::within(BOOT, raw), "{:?}", console.joined.stderr());
        console.before = 0;
        console
    }

    /// All that came so far.
    pub fn seen(&self) -> String {
        self.joined.stdout()
    }

    /// Waits until a text has come since the last line was typed.
    ///
    /// # Panics
    /// When it does not come in time.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let came = || self.seen().get(self.before..).is_some_and(|new| new.contains(text));
        assert!(host::within(BOOT, came), "no {text:?} on the console, but {:?}", self.seen());
    }

    /// Types a line, and waits until a text has come in answer to it.
    ///
    /// # Panics
    /// As [`AtConsole::wait_for`].
    #[track_caller]
    pub fn type_in(&mut self, line: &str, answer: &str) {
        self.before = self.seen().len();
        // The key of a keyboard.
        rustix::io::write(&self.keyboard, format!("{line}\r").as_bytes()).expect("write to the console");
        self.wait_for(answer);
    }

    /// Logs root in, whose password is empty.
    #[track_caller]
    pub fn log_in(&mut self) {
        self.wait_for("login:");
        self.type_in("root", "#");
    }
}

impl Drop for AtConsole {
    fn drop(&mut self) {
        self.joined.kill();
    }
}
