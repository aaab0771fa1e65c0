//! Which hierarchies the host has, where they are mounted, and where the caller is in each.
//!
//! Everything comes from one read of `/proc/self/cgroup` and one `statfs` per hierarchy at the place where its name says
//! that it is. `/proc/self/mountinfo` grows with the mounts of the host, so it is read only where that guess fails.

use serde::{Deserialize, Serialize};
use sys::ProcFs;

use crate::error::{Error, Result};

/// Where every distribution mounts its hierarchies.
pub const ROOT: &str = "/sys/fs/cgroup";

/// `CGROUP_SUPER_MAGIC` of linux/magic.h: a v1 hierarchy.
const CGROUP_V1: u64 = 0x0027_e0eb;
/// `CGROUP2_SUPER_MAGIC` of linux/magic.h: the unified hierarchy.
const CGROUP_V2: u64 = 0x6367_7270;
/// Inode number of the topmost folder of a hierarchy: kernfs counts its nodes from 1.
const TOP_INO: u64 = 1;

/// How a host arranges its hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// v1 hierarchies only.
    Legacy,
    /// v1 hierarchies, and the unified one beside them at `/sys/fs/cgroup/unified`.
    Hybrid,
    /// The unified hierarchy alone, mounted at `/sys/fs/cgroup`.
    Unified,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The kernel's number; 0 is the unified hierarchy.
    pub id: u32,
    /// Controllers of it, such as `cpu` and `cpuacct` where they are mounted together, or `name=systemd`. For the unified
    /// hierarchy of a [`Mode::Unified`] host, what its root offers; on a hybrid host the limits go to v1, so it is empty.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The caller's own group, absolute below `mountpoint`: `/` for its top.
    pub own_path: String,
}

/// The hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// How they are arranged.
    pub mode: Mode,
    /// The mounted v1 hierarchies, by the kernel's number, highest first (the order of `/proc/self/cgroup`).
    pub hierarchies: Vec<Hierarchy>,
    /// The unified hierarchy, where it is mounted at one of its two places.
    pub unified: Option<Hierarchy>,
}

impl Layout {
    /// The v1 hierarchy that has a controller.
    #[must_use]
    pub fn find(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// Whether limits for a controller can be written: it is mounted (v1), or offered (v2).
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        match (self.mode, &self.unified) {
            (Mode::Unified, Some(unified)) => unified.controllers.iter().any(|name| name == controller),
            _ => self.find(controller).is_some(),
        }
    }
}

/// Looks at the running host.
///
/// # Errors
/// [`Error::Sys`] where `/proc/self/cgroup` cannot be read, [`Error::Parse`] where it cannot be understood,
/// [`Error::NoHierarchy`] where no hierarchy is mounted at all.
pub fn probe(proc: &ProcFs) -> Result<Layout> {
    probe_at(ROOT, proc)
}

/// [`probe`] with another folder in the place of `/sys/fs/cgroup`.
///
/// # Errors
/// As [`probe`].
pub fn probe_at(root: &str, proc: &ProcFs) -> Result<Layout> {
    let own = proc.own_thread()?;
    let memberships = parse_memberships(&proc.read(&format!("{own}/cgroup"))?)?;
    let own_unified = memberships.iter().find(|membership| membership.id == 0);
    let mut mounts = Mounts { read: &|| Ok(proc.read(&format!("{own}/mountinfo"))?), list: None };
    if magic(root)? == Some(CGROUP_V2) {
        let own_path = own_in_unified(root, own_unified, &mut mounts)?;
        let controllers = sys::fs::read_text_at(sys::fs::CWD, &format!("{root}/cgroup.controllers"))?;
        let unified = Hierarchy {
            id: 0,
            controllers: controllers.split_ascii_whitespace().map(str::to_owned).collect(),
            mountpoint: root.to_owned(),
            own_path,
        };
        return Ok(Layout { mode: Mode::Unified, hierarchies: Vec::new(), unified: Some(unified) });
    }
    let hierarchies = probe_legacy(root, &memberships, &mut mounts)?;
    let unified = probe_hybrid(root, own_unified, &mut mounts)?;
    if hierarchies.is_empty() && unified.is_none() {
        return Err(Error::NoHierarchy { root: root.to_owned() });
    }
    let mode = if unified.is_some() { Mode::Hybrid } else { Mode::Legacy };
    Ok(Layout { mode, hierarchies, unified })
}

/// The cgroup mounts of `/proc/self/mountinfo`, read when they are first needed.
struct Mounts<'a> {
    read: &'a dyn Fn() -> Result<String>,
    list: Option<Vec<CgroupMount>>,
}

impl Mounts<'_> {
    fn get(&mut self) -> Result<&[CgroupMount]> {
        if self.list.is_none() {
            self.list = Some(parse_mountinfo(&(self.read)()?));
        }
        Ok(self.list.as_deref().unwrap_or_default())
    }
}

fn probe_legacy(root: &str, memberships: &[Membership], mounts: &mut Mounts<'_>) -> Result<Vec<Hierarchy>> {
    let mut found = Vec::with_capacity(memberships.len());
    // One without controllers and name is being made or ended by somebody just now.
    for membership in memberships.iter().filter(|membership| membership.id != 0 && !membership.controllers.is_empty()) {
        if let Some(hierarchy) = at_its_name(root, membership)? {
            found.push(hierarchy);
            continue;
        }
        // A hierarchy that the kernel knows and nobody has mounted here is no error: limits that need it will be.
        found.extend(in_mountinfo(mounts.get()?, root, membership));
    }
    Ok(found)
}

fn probe_hybrid(root: &str, own: Option<&Membership>, mounts: &mut Mounts<'_>) -> Result<Option<Hierarchy>> {
    let mountpoint = format!("{root}/unified");
    if magic(&mountpoint)? != Some(CGROUP_V2) {
        return Ok(None);
    }
    let own_path = own_in_unified(&mountpoint, own, mounts)?;
    Ok(Some(Hierarchy { id: 0, controllers: Vec::new(), mountpoint, own_path }))
}

/// The own path below the mount of the unified hierarchy.
fn own_in_unified(mountpoint: &str, own: Option<&Membership>, mounts: &mut Mounts<'_>) -> Result<String> {
    let path = own.map_or("/", |membership| &membership.path);
    if let Some(own_path) = own_below(mountpoint, path)? {
        return Ok(own_path);
    }
    // What is mounted last on a place is what is seen there.
    let mount = mounts.get()?.iter().rfind(|mount| mount.unified && mount.mountpoint == mountpoint);
    Ok(below_mount_root(path, mount.map_or("/", |mount| &mount.root)))
}

/// The hierarchy at `/sys/fs/cgroup/<controllers>` or `/sys/fs/cgroup/<first controller>`.
fn at_its_name(root: &str, membership: &Membership) -> Result<Option<Hierarchy>> {
    for name in usual_names(&membership.controllers) {
        let mountpoint = format!("{root}/{name}");
        if magic(&mountpoint)? != Some(CGROUP_V1) {
            continue;
        }
        if let Some(own_path) = own_below(&mountpoint, &membership.path)? {
            let controllers = membership.controllers.clone();
            return Ok(Some(Hierarchy { id: membership.id, controllers, mountpoint, own_path }));
        }
    }
    Ok(None)
}

/// The own path below a mount that shows the whole hierarchy; `None` where only the list of mounts can tell.
///
/// In a container without a cgroup namespace, the mount begins at the container's group while the path is told from the
/// top. That the path exists proves nothing then: a container in there, with the same id, has a group of this path.
fn own_below(mountpoint: &str, path: &str) -> Result<Option<String>> {
    let whole = || -> Result<bool> {
        let top = sys::fs::stat_at(sys::fs::CWD, mountpoint)?.st_ino == TOP_INO;
        Ok(top && magic(&format!("{mountpoint}{path}"))?.is_some())
    };
    if path == "/" || whole()? { Ok(Some(path.to_owned())) } else { Ok(None) }
}

/// The hierarchy where the list of mounts has it: at one of its usual places, or at any other.
fn in_mountinfo(mounts: &[CgroupMount], top: &str, membership: &Membership) -> Option<Hierarchy> {
    let controllers = &membership.controllers;
    let holds = |mount: &&CgroupMount| {
        !mount.unified && controllers.iter().all(|name| mount.options.iter().any(|option| option == name))
    };
    let places: Vec<String> = usual_names(controllers).iter().map(|name| format!("{top}/{name}")).collect();
    let is_usual = |mount: &&CgroupMount| holds(mount) && places.contains(&mount.mountpoint);
    let mount = mounts.iter().rfind(is_usual).or_else(|| mounts.iter().find(holds))?;
    Some(Hierarchy {
        id: membership.id,
        controllers: controllers.clone(),
        mountpoint: mount.mountpoint.clone(),
        own_path: below_mount_root(&membership.path, &mount.root),
    })
}

/// What a path of `/proc/self/cgroup` is below a mount that shows only `root`: `/` where it lies outside.
#[must_use]
pub fn below_mount_root(path: &str, root: &str) -> String {
    sys::mountinfo::below(path, root).unwrap_or("/").to_owned()
}

/// Folder names to try for a set of controllers, most telling first.
fn usual_names(controllers: &[String]) -> Vec<String> {
    let plain: Vec<&str> = controllers.iter().map(|name| name.strip_prefix("name=").unwrap_or(name)).collect();
    let mut names = vec![plain.join(",")];
    if plain.len() > 1 {
        names.extend(plain.iter().map(|name| (*name).to_owned()));
    }
    names
}

/// The file system type at a path; `None` where there is nothing.
fn magic(path: &str) -> Result<Option<u64>> {
    match sys::watch::statfs_type(path) {
        Ok(kind) => Ok(Some(kind)),
        Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One line of `/proc/<pid>/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The kernel's number; 0 is the unified hierarchy.
    pub id: u32,
    /// Controllers, empty for the unified hierarchy.
    pub controllers: Vec<String>,
    /// The group, absolute from the root of the reader's cgroup namespace.
    pub path: String,
}

/// Parses `/proc/<pid>/cgroup`: lines of `id:controller,controller:path`.
///
/// Kernel: cgroups(7), "/proc files". A path may contain colons; the first two separate.
///
/// # Errors
/// [`Error::Parse`] with the line.
pub fn parse_memberships(text: &str) -> Result<Vec<Membership>> {
    let parse = |line: &str| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        if !path.starts_with('/') {
            return None;
        }
        let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(Membership { id: id.parse().ok()?, controllers, path: path.to_owned() })
    };
    text.lines()
        .map(|line| {
            parse(line).ok_or_else(|| Error::Parse { file: "/proc/self/cgroup".to_owned(), text: line.to_owned() })
        })
        .collect()
}

/// One mount of a hierarchy in `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// Which part of the hierarchy is mounted.
    pub root: String,
    /// Where.
    pub mountpoint: String,
    /// Options of the superblock: for v1 the controllers and `name=`, among others.
    pub options: Vec<String>,
    /// Whether it is the unified hierarchy.
    pub unified: bool,
}

/// Picks the mounts of type `cgroup` and `cgroup2` out of `/proc/self/mountinfo`.
#[must_use]
pub fn parse_mountinfo(text: &str) -> Vec<CgroupMount> {
    let of_cgroup = |mount: sys::mountinfo::Mount| {
        matches!(mount.kind.as_str(), "cgroup" | "cgroup2").then(|| CgroupMount {
            root: mount.root,
            mountpoint: mount.mountpoint,
            options: mount.options.split(',').map(str::to_owned).collect(),
            unified: mount.kind == "cgroup2",
        })
    };
    sys::mountinfo::parse(text).filter_map(of_cgroup).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(id: u32, controllers: &[&str], path: &str) -> Membership {
        Membership { id, controllers: controllers.iter().map(|&name| name.to_owned()).collect(), path: path.to_owned() }
    }

    #[test]
    fn memberships_of_a_hybrid_host() {
        let text = "12:name=systemd:/user.slice\n5:cpu,cpuacct:/a:b\n0::/user.slice\n";
        let expected = [
            membership(12, &["name=systemd"], "/user.slice"),
            membership(5, &["cpu", "cpuacct"], "/a:b"),
            membership(0, &[], "/user.slice"),
        ];
        assert_eq!(parse_memberships(text).unwrap(), expected);
    }

    #[test]
    fn memberships_that_make_no_sense() {
        for text in ["x:cpu:/", "1:cpu", "1:cpu:relative", ""] {
            let parsed = parse_memberships(text);
            assert!(if text.is_empty() { parsed.unwrap().is_empty() } else { parsed.is_err() }, "{text:?}");
        }
    }

    #[test]
    fn mountinfo_keeps_cgroup_mounts_only() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 /docker/x /sys/fs/cgroup/cpu\\040x rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                    broken line\n";
        let mount = |root: &str, mountpoint: &str, options: &[&str], unified| CgroupMount {
            root: root.to_owned(),
            mountpoint: mountpoint.to_owned(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            unified,
        };
        let expected = [
            mount("/docker/x", "/sys/fs/cgroup/cpu x", &["rw", "cpu", "cpuacct"], false),
            mount("/", "/sys/fs/cgroup/unified", &["rw"], true),
        ];
        assert_eq!(parse_mountinfo(text), expected);
    }

    #[test]
    fn finds_co_mounted_controllers_wherever_they_are() {
        let mounts = parse_mountinfo("1 1 0:1 / /x/both rw - cgroup cgroup rw,net_cls,net_prio\n");
        let found = in_mountinfo(&mounts, ROOT, &membership(3, &["net_cls", "net_prio"], "/own")).unwrap();
        assert_eq!((found.mountpoint.as_str(), found.own_path.as_str()), ("/x/both", "/own"));
        assert_eq!(in_mountinfo(&mounts, ROOT, &membership(4, &["hugetlb"], "/")), None);
    }

    #[test]
    fn a_hierarchy_that_is_being_made_is_none_yet() {
        let list = parse_mountinfo("1 1 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
        let mut mounts = Mounts { read: &|| unreachable!("it has been read"), list: Some(list) };
        let found = probe_legacy("/nowhere", &[membership(9, &[], "/"), membership(1, &["cpu"], "/")], &mut mounts);
        let ids: Vec<u32> = found.unwrap().iter().map(|hierarchy| hierarchy.id).collect();
        assert_eq!(ids, [1]);
    }

    #[test]
    fn prefers_the_mount_at_its_usual_place() {
        let text = "1 1 0:1 / /elsewhere rw - cgroup cgroup rw,pids\n\
                    2 1 0:1 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                    3 1 0:1 /ct /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let found = in_mountinfo(&parse_mountinfo(text), ROOT, &membership(3, &["pids"], "/ct/sub")).unwrap();
        assert_eq!((found.mountpoint.as_str(), found.own_path.as_str()), ("/sys/fs/cgroup/pids", "/sub"));
    }

    #[test]
    fn own_path_below_a_partial_mount() {
        let check = |path, root, expected: &str| assert_eq!(below_mount_root(path, root), expected, "{path} {root}");
        check("/docker/x", "/docker/x", "/");
        check("/docker/x/y", "/docker/x", "/y");
        check("/docker/xy", "/docker/x", "/");
        check("/elsewhere", "/docker/x", "/");
        check("/a", "/", "/a");
    }

    #[test]
    fn names_of_folders() {
        let names = |controllers: &[&str]| usual_names(&membership(1, controllers, "/").controllers);
        assert_eq!(names(&["name=systemd"]), ["systemd"]);
        assert_eq!(names(&["cpu", "cpuacct"]), ["cpu,cpuacct", "cpu", "cpuacct"]);
    }
}
