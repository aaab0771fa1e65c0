//! What a perfect runtime does for the bundle that `spec` writes, and nothing else: `floor [--root DIR] run --bundle DIR ID`.
//!
//! Everything is known beforehand: nothing is parsed, judged, planned, recorded or taken back on the way, no gate is
//! passed and no copy of the program protects it. What is left is the kernel's share: groups, namespaces, mounts, devices,
//! masks, capabilities, the program, and the groups' removal. The bundle's root file system is the folder `rootfs` beside
//! it, and its program `true`. As it reads no definition it goes by the bundle's name: it refuses any but `short`. For
//! hosts with cgroup v1, alone or beside v2.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use sys::fs::{FileType, OFlags};
use sys::mount::{AttrChange, Depth, FsContext, Propagation, UnmountFlags};
use sys::process::{CapMasks, Cloned, Exit, Prepared};
use sys::{Errno, Result};

#[global_allocator]
static HEAP: sys::heap::Heap = sys::heap::Heap::new();

/// The name of the one bundle that it performs.
const BUNDLE: &str = "short";
/// CLONE_NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET.
const NAMESPACES: u64 = 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000;
const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
const STRICTATIME: u64 = 0x20;
/// CAP_KILL, CAP_NET_BIND_SERVICE and CAP_AUDIT_WRITE, as the example of the specification has them.
const CAPABILITIES: u64 = 1 << 5 | 1 << 10 | 1 << 29;
/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP_V1: u64 = 0x0027_e0eb;
const CGROUP_V2: u64 = 0x6367_7270;
/// The highest capability of this kernel is found by asking; none is above this.
const LAST_CAPABILITY: u32 = 63;
/// RLIMIT_NOFILE.
const NOFILE: u32 = 7;
const RULES: [&str; 11] = [
    "b *:* m",
    "c *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
    "c 136:* rwm",
];
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const MASKED: [&str; 10] = [
    "proc/acpi",
    "proc/asound",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "sys/firmware",
    "proc/scsi",
];

/// A group in one hierarchy.
struct Group {
    name: String,
    dir: String,
    is_unified: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == "--bundle");
    let (Some(at), true) = (at, args.iter().any(|arg| arg == "run")) else { return ExitCode::from(2) };
    let (Some(bundle), Some(id)) = (args.get(at + 1), args.get(at + 2)) else { return ExitCode::from(2) };
    let (parent, name) = bundle.rsplit_once('/').unwrap_or((".", bundle));
    if name != BUNDLE {
        return fail(&format!("the floor performs the bundle {BUNDLE:?} and no other"));
    }
    match run(&format!("{parent}/rootfs"), id) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    // There is nobody else to tell when standard error is closed.
    drop(std::io::Write::write_all(&mut std::io::stderr(), format!("error: {text}\n").as_bytes()));
    ExitCode::FAILURE
}

fn run(rootfs: &str, id: &str) -> Result<u8> {
    let mut groups = Vec::new();
    let outcome = make_groups(id, &mut groups).and_then(|()| start(rootfs, &groups));
    let root = sys::fs::open_dir("/")?;
    for group in &groups {
        sys::fs::rmdir_at(root.as_fd(), &group.dir)?;
    }
    outcome
}

fn start(rootfs: &str, groups: &[Group]) -> Result<u8> {
    let unified =
        groups.iter().find(|group| group.is_unified).map(|group| sys::fs::open_dir(&group.dir)).transpose()?;
    let tasks = groups.iter().filter(|group| !group.is_unified);
    let tasks: Vec<OwnedFd> =
        tasks.map(|group| sys::fs::open(&format!("{}/tasks", group.dir), OFlags::WRONLY)).collect::<Result<_>>()?;
    match sys::process::clone3(NAMESPACES, unified.as_ref().map(AsFd::as_fd))? {
        Cloned::Child => {
            let outcome = become_container(rootfs, groups, &tasks);
            if let Err(error) = outcome {
                let text = format!("error: {error}\n");
                drop(sys::fs::write_all(std::io::stderr().as_fd(), text.as_bytes()));
            }
            sys::process::exit_now(127)
        }
        Cloned::Parent { pid, .. } => Ok(match sys::process::wait(pid)? {
            Exit::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Exit::Signal(_) => u8::MAX,
        }),
    }
}

/// A group in each hierarchy below the caller's own, with the device rules.
fn make_groups(id: &str, groups: &mut Vec<Group>) -> Result<()> {
    let own = sys::fs::read_text_at(sys::fs::open_dir("/proc/self")?.as_fd(), "cgroup")?;
    let root = sys::fs::open_dir("/")?;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(name), Some(path)) = (fields.next(), fields.next()) else { continue };
        let name = if name.is_empty() { "unified" } else { name.trim_start_matches("name=") };
        let mountpoint = format!("/sys/fs/cgroup/{name}");
        // One that is mounted elsewhere, or nowhere: a plain folder may be left of it.
        if !matches!(unless_missing(sys::watch::statfs_type(&mountpoint))?, Some(CGROUP_V1 | CGROUP_V2)) {
            continue;
        }
        let dir = format!("{mountpoint}{}/{id}", path.trim_end_matches('/'));
        sys::fs::mkdir_at(root.as_fd(), &dir, 0o755)?;
        groups.push(Group { is_unified: name == "unified", name: name.to_owned(), dir });
    }
    for group in groups {
        let dir = || sys::fs::open_dir(&group.dir);
        match group.name.as_str() {
            "devices" => {
                let dir = dir()?;
                sys::fs::write_value_at(dir.as_fd(), "devices.deny", "a *:* rwm")?;
                let allow = sys::fs::open_at(dir.as_fd(), "devices.allow", OFlags::WRONLY, 0)?;
                RULES.iter().try_for_each(|rule| sys::fs::write_value(allow.as_fd(), rule))?;
            }
            // A parent with clone_children has filled it.
            "cpuset" => {
                let dir = dir()?;
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if sys::fs::read_text_at(dir.as_fd(), file)?.trim().is_empty() {
                        let value = sys::fs::read_text_at(dir.as_fd(), &format!("../{file}"))?;
                        sys::fs::write_value_at(dir.as_fd(), file, value.trim())?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn become_container(rootfs: &str, groups: &[Group], tasks: &[OwnedFd]) -> Result<()> {
    sys::process::set_dumpable(false)?;
    sys::process::new_session()?;
    tasks.iter().try_for_each(|file| sys::fs::write_value(file.as_fd(), "0"))?;
    sys::keyring::join_session("_ses.floor")?;
    sys::netlink::set_interface_up("lo")?;
    sys::namespace::set_hostname("runc")?;
    enter_root(rootfs, groups)?;
    become_user()?;
    let program = Prepared::new("/bin/true", ["true"], ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])?;
    sys::process::prlimit(0, NOFILE, 1024, 1024)?;
    sys::process::set_no_new_privs()?;
    sys::process::capset(CapMasks { effective: CAPABILITIES, permitted: CAPABILITIES, inheritable: 0 })?;
    Err(sys::Error::new("execve(\"/bin/true\")", program.execute()))
}

/// Builds the tree and makes it the root.
fn enter_root(rootfs: &str, groups: &[Group]) -> Result<()> {
    let slave = AttrChange { propagation: Some(Propagation::Slave), ..AttrChange::default() };
    sys::mount::set_attr(sys::mount::open_mount("/")?.as_fd(), slave, Depth::Tree)?;
    let copy = sys::mount::clone_path(rootfs, Depth::Tree, false)?;
    let views: Vec<OwnedFd> =
        groups.iter().map(|group| sys::mount::clone_path(&group.dir, Depth::One, false)).collect::<Result<_>>()?;
    sys::mount::attach(copy.as_fd(), sys::fs::open_dir(rootfs)?.as_fd())?;
    sys::process::chdir(rootfs)?;
    mount("proc", &[], 0, "proc")?;
    mount("tmpfs", &[("mode", "755"), ("size", "65536k")], NOSUID | STRICTATIME, "dev")?;
    make_devices()?;
    mount(
        "devpts",
        &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
        NOSUID | NOEXEC,
        "dev/pts",
    )?;
    mount("tmpfs", &[("mode", "1777"), ("size", "65536k")], NOSUID | NODEV | NOEXEC, "dev/shm")?;
    mount("mqueue", &[], NOSUID | NODEV | NOEXEC, "dev/mqueue")?;
    mount("sysfs", &[], NOSUID | NODEV | NOEXEC | RDONLY, "sys")?;
    mount_groups(groups, &views)?;
    sys::mount::pivot_root_here()?;
    sys::mount::unmount(".", UnmountFlags::DETACH)?;
    sys::process::chdir("/")?;
    let read_only = AttrChange { set: RDONLY, ..AttrChange::default() };
    sys::mount::set_attr(sys::mount::open_mount("/")?.as_fd(), read_only, Depth::One)?;
    for name in READ_ONLY {
        let path = format!("/proc/{name}");
        let Some(view) = unless_missing(sys::mount::clone_path(&path, Depth::One, false))? else { continue };
        sys::mount::set_attr(view.as_fd(), read_only, Depth::One)?;
        sys::mount::attach(view.as_fd(), sys::fs::open(&path, OFlags::PATH)?.as_fd())?;
    }
    mask()
}

/// A null device over files, and one empty folder over folders.
fn mask() -> Result<()> {
    let root = sys::fs::open_dir("/")?;
    let mut folder: Option<OwnedFd> = None;
    for path in MASKED {
        let Some(target) = unless_missing(sys::fs::open_at(root.as_fd(), path, OFlags::PATH, 0))? else { continue };
        let cover = match sys::fs::file_type(&sys::fs::stat(target.as_fd())?) {
            FileType::Directory => match &folder {
                Some(first) => sys::mount::clone_tree(first.as_fd(), Depth::One)?,
                None => {
                    let made = FsContext::open("tmpfs")?;
                    made.set_flag("ro")?;
                    let made = made.mount(RDONLY)?;
                    let cover = sys::mount::clone_tree(made.as_fd(), Depth::One)?;
                    folder = Some(made);
                    cover
                }
            },
            _ => sys::mount::clone_path("/dev/null", Depth::One, false)?,
        };
        sys::mount::attach(cover.as_fd(), target.as_fd())?;
    }
    Ok(())
}

fn unless_missing<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.is(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn make_devices() -> Result<()> {
    let dev = sys::fs::open_dir("dev")?;
    for name in ["pts", "shm", "mqueue"] {
        sys::fs::mkdir_at(dev.as_fd(), name, 0o755)?;
    }
    sys::process::set_umask(0);
    for (name, major, minor) in DEVICES {
        let number = u64::from(major) << 8 | u64::from(minor);
        sys::fs::mknod_at(dev.as_fd(), name, FileType::CharacterDevice, 0o666, number)?;
    }
    sys::process::set_umask(0o022);
    LINKS.iter().try_for_each(|(target, name)| sys::fs::symlink_at(target, dev.as_fd(), name))
}

/// What the specification's `cgroup` mount is on v1: a folder with a view of the own group in each hierarchy.
fn mount_groups(groups: &[Group], views: &[OwnedFd]) -> Result<()> {
    let flags = NOSUID | NODEV | NOEXEC;
    mount("tmpfs", &[("mode", "755")], flags, "sys/fs/cgroup")?;
    let folder = sys::fs::open_dir("sys/fs/cgroup")?;
    let read_only = AttrChange { set: flags | RDONLY, ..AttrChange::default() };
    for (group, view) in groups.iter().zip(views) {
        sys::fs::mkdir_at(folder.as_fd(), &group.name, 0o755)?;
        let target = sys::fs::open_at(folder.as_fd(), &group.name, OFlags::PATH, 0)?;
        sys::mount::set_attr(view.as_fd(), read_only, Depth::One)?;
        sys::mount::attach(view.as_fd(), target.as_fd())?;
    }
    let read_only = AttrChange { set: RDONLY, ..AttrChange::default() };
    sys::mount::set_attr(folder.as_fd(), read_only, Depth::One)
}

fn mount(kind: &str, options: &[(&str, &str)], attributes: u64, at: &str) -> Result<()> {
    let context = FsContext::open(kind)?;
    for (key, value) in options {
        if value.is_empty() { context.set_flag(key)? } else { context.set_string(key, value)? }
    }
    let mount = context.mount(attributes)?;
    sys::mount::attach(mount.as_fd(), sys::fs::open(at, OFlags::PATH)?.as_fd())
}

fn become_user() -> Result<()> {
    sys::process::set_groups(&[])?;
    for capability in (0..=LAST_CAPABILITY).filter(|capability| CAPABILITIES >> capability & 1 == 0) {
        match sys::process::drop_bounding(capability) {
            // Above the highest that this kernel has.
            Err(error) if error.is(Errno::INVAL) => break,
            other => other?,
        }
    }
    sys::process::set_gid(0)?;
    sys::process::set_uid(0)
}
