//! Looks at the machine as the kernel shows it: cgroup hierarchies, mounts, processes, devices. Changes nothing but
//! what a function's name says.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// One line of `/proc/PID/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The folder of the file system that is mounted.
    pub root: String,
    /// Where it is mounted, seen from the reader's root.
    pub target: String,
    /// Options of this mount (`ro`, `nosuid`, ...).
    pub options: Vec<String>,
    /// Propagation fields (`shared:1`, `master:2`, `unbindable`); empty means private.
    pub propagation: Vec<String>,
    /// File system type.
    pub fstype: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

/// Parses the text of a mountinfo file.
///
/// # Panics
/// On a line that the kernel would not write.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().map(parse_mount).collect()
}

/// The mount that is seen at a path: the last of those that are there.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn mount_at<'m>(mounts: &'m [Mount], target: &str) -> &'m Mount {
    let found = mounts.iter().rfind(|mount| mount.target == target);
    found.unwrap_or_else(|| panic!("no mount at {target} in {mounts:#?}"))
}

fn parse_mount(line: &str) -> Mount {
    let (left, right) = line.split_once(" - ").unwrap_or_else(|| panic!("not a mountinfo line: {line}"));
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    Mount {
        root: unescape(left[3]),
        target: unescape(left[4]),
        options: list(left[5]),
        propagation: left[6..].iter().map(|&s| s.to_owned()).collect(),
        fstype: right[0].to_owned(),
        super_options: list(right.last().copied().unwrap_or_default()),
    }
}

/// Undoes the octal escapes (`\040`) of mountinfo.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |s, (a, b)| s.replace(a, b))
}

/// The mounts that the test's own process sees.
pub fn own_mounts() -> Vec<Mount> {
    parse_mountinfo(&fs::read_to_string("/proc/self/mountinfo").expect("read /proc/self/mountinfo"))
}

/// Where this v1 controller (or `name=systemd`) is mounted, if it is.
pub fn v1_mount(controller: &str) -> Option<PathBuf> {
    own_mounts()
        .into_iter()
        .find(|m| m.fstype == "cgroup" && m.super_options.iter().any(|o| o == controller))
        .map(|m| PathBuf::from(m.target))
}

/// Where v2 is mounted, if it is the only hierarchy.
pub fn v2_alone() -> Option<PathBuf> {
    let mounts = own_mounts();
    if mounts.iter().any(|m| m.fstype == "cgroup") {
        return None;
    }
    mounts.into_iter().find(|m| m.fstype == "cgroup2").map(|m| PathBuf::from(m.target))
}

/// Whether a new group of this v1 controller would have `file`. Makes and removes one to find out.
pub fn v1_file(controller: &str, file: &str) -> bool {
    let Some(mount) = v1_mount(controller) else { return false };
    let probe = mount.join(format!("sk-probe-{}-{file}", std::process::id()));
    let made = fs::create_dir(&probe).is_ok();
    let there = probe.join(file).exists();
    if made && let Err(e) = fs::remove_dir(&probe) {
        panic!("cannot remove {}: {e}", probe.display());
    }
    there
}

/// The mount points of all cgroup hierarchies, v1 and v2.
pub fn cgroup_mounts() -> Vec<PathBuf> {
    let mounts = own_mounts().into_iter().filter(|m| m.fstype == "cgroup" || m.fstype == "cgroup2");
    mounts.map(|m| PathBuf::from(m.target)).collect()
}

/// Of each hierarchy its root, and the group that this process is in: a relative path lies below that one.
pub fn group_roots() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own: Vec<_> = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let mut roots = Vec::new();
    for mount in own_mounts().into_iter().filter(|m| m.fstype == "cgroup" || m.fstype == "cgroup2") {
        let root = PathBuf::from(&mount.target);
        let is_its = |names: &str| match mount.fstype.as_str() {
            "cgroup2" => names.is_empty(),
            _ => names.split(',').any(|name| mount.super_options.iter().any(|option| option == name)),
        };
        roots.extend(own.iter().filter(|(names, _)| is_its(names)).map(|(_, path)| root.join(path.trim_matches('/'))));
        roots.push(root);
    }
    roots.sort();
    roots.dedup();
    roots
}

/// Ends v1 hierarchies that no mount shows any more. The kernel keeps one whose last mount went while a group of it was still
/// dying; every process has a line of it then, which engines look for a mount of. The next unmount ends it, once the group is
/// gone; whether there is none left.
///
/// # Panics
/// The groups of this process cannot be read, or `unshare` not be run.
pub fn end_hidden_hierarchies() -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").expect("read the groups");
    let mut none = true;
    for controllers in own.lines().filter_map(|line| line.split(':').nth(1)).filter(|name| !name.is_empty()) {
        let first = controllers.split(',').next().unwrap_or_default();
        if v1_mount(first).is_none() {
            none = false;
            let again = format!("mount -t cgroup -o {controllers} none /mnt && umount /mnt");
            let mut unshare = std::process::Command::new("/usr/bin/unshare");
            unshare.args(["--mount", "sh", "-c", &again]).status().expect("run unshare");
            // A mount that comes before the kernel is done with the unmount keeps it.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    none
}

/// Controllers that a child of the v2 root may use.
pub fn v2_controllers() -> Vec<String> {
    let Some(root) = own_mounts().into_iter().find(|m| m.fstype == "cgroup2") else { return Vec::new() };
    let text = fs::read_to_string(Path::new(&root.target).join("cgroup.subtree_control")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether the test's own process has the capability with this number in its effective set.
pub fn own_capability(number: u32) -> bool {
    let sets = status_field(std::process::id(), "CapEff").unwrap_or_default();
    u64::from_str_radix(&sets, 16).is_ok_and(|bits| bits >> number & 1 == 1)
}

/// Major and minor version of the running kernel.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Version of the Landlock interface that the kernel speaks; 0 for none.
pub fn landlock_abi() -> u32 {
    sys::landlock::abi().unwrap_or(0)
}

/// A field of `/proc/PID/status` without the white space around it.
pub fn status_field(pid: impl std::fmt::Display, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Whether a process with this pid exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    status_field(pid, "State").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// The major and minor number of the whole disk that holds `path`, if one does.
pub fn disk_of(path: &Path) -> Option<(u64, u64)> {
    let dev = fs::metadata(path).ok()?.dev();
    let (major, minor) = (u64::from(rustix::fs::major(dev)), u64::from(rustix::fs::minor(dev)));
    let entry = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if entry.join("partition").exists() { entry.parent()?.to_owned() } else { entry };
    let numbers = fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Waits until `condition` holds, looking every few milliseconds.
///
/// # Panics
/// When it does not hold within 20 seconds; `what` names it.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(Duration::from_secs(20), condition), "never: {what}");
}

/// How much longer than on a machine of its own a wait may take: the environment variable `TIME_FACTOR`, else 1.
///
/// # Panics
/// When the variable is no number from 1 up.
pub fn time_factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        let text = std::env::var("TIME_FACTOR").unwrap_or_else(|_| "1".to_owned());
        text.parse().ok().filter(|factor| *factor > 0).unwrap_or_else(|| panic!("TIME_FACTOR is {text:?}"))
    })
}

/// Whether `condition` comes to hold within this time.
///
/// It is stretched by [`time_factor`].
pub fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + time * time_factor();
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All folders below `top` and `top` itself, deepest first.
pub fn folders_deepest_first(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(entries) = fs::read_dir(top) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.extend(folders_deepest_first(&entry.path()));
            }
        }
        found.push(top.to_owned());
    }
    found
}

/// The release of Debian that apt on this machine is set up with and the archive that it comes from, which answers; `None`
/// where there is none.
pub fn debian_mirror() -> Option<(String, String)> {
    let format = "$(SITE) $(CODENAME) $(ORIGIN) $(COMPONENT)";
    let output = Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]).output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let (suite, site) = text.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [site, suite, "Debian", "main"] if !suite.contains('-') => Some(((*suite).to_owned(), (*site).to_owned())),
        _ => None,
    })?;
    let release = format!("{}/dists/{suite}/InRelease", site.trim_end_matches('/'));
    // Named by the process and the thread: tests of one process ask beside each other.
    let name = format!("sk-mirror-{}-{:?}", std::process::id(), std::thread::current().id());
    let file = std::env::temp_dir().join(name);
    let fetch = Command::new("/usr/lib/apt/apt-helper").arg("download-file").arg(release).arg(&file).output();
    let reached = fetch.is_ok_and(|output| output.status.success());
    if file.exists() {
        std::fs::remove_file(file).expect("remove what was fetched");
    }
    reached.then_some((suite, site))
}

/// Whether the running kernel has this module, to load or built in, as far as its folder of modules says.
pub fn kernel_module(name: &str) -> bool {
    let folder = Path::new("/lib/modules").join(rustix::system::uname().release().to_string_lossy().as_ref());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let text = fs::read_to_string(folder.join(list)).unwrap_or_default();
        text.lines().any(|line| line.split(':').next().is_some_and(|file| file.contains(&format!("/{name}.ko"))))
    })
}
