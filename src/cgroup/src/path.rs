//! Where a container's groups are: pure, from the layout and the definition.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::{Hierarchy, Layout, Mode};

/// One group of a container: a folder in one hierarchy. The state file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPath {
    /// The kernel's number of the hierarchy; 0 is the unified one.
    pub hierarchy: u32,
    /// Controllers that are limited through it; empty for the unified hierarchy of a hybrid host.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mountpoint: String,
    /// The group, absolute below `mountpoint`, clean, never `/`.
    pub path: String,
}

impl GroupPath {
    /// Whether this is the unified hierarchy.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.hierarchy == 0
    }

    /// The folder on the host.
    #[must_use]
    pub fn dir(&self) -> String {
        format!("{}{}", self.mountpoint, self.path)
    }

    /// Relative to the mount point, as descriptors of it want it.
    pub(crate) fn relative(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// The groups above this one, from the one below the hierarchy's top down, relative to the mount point.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        let relative = self.relative();
        relative.match_indices('/').map(|(end, _)| &relative[..end])
    }

    /// Whether limits of a controller go here.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Places a container in each hierarchy.
///
/// An absolute `cgroups_path` is taken from each mount point; `..` at its top stays there, as in any absolute path. A
/// relative one, and an absent or empty one (which is the id), is taken from the caller's own group in that hierarchy;
/// where unified is the only hierarchy, from the parent of that group, because a group with tasks of its own cannot hand
/// controllers on. These are runc's rules, except that it silently drops the `..` of a relative path that climbs out.
///
/// Spec: runtime-spec 1.3, config-linux.md, `linux.cgroupsPath`.
///
/// # Errors
/// [`Error::Path`] for a path that climbs above its start, that names a hierarchy's top or that holds a NUL.
pub fn plan(layout: &Layout, cgroups_path: Option<&str>, id: &str) -> Result<Vec<GroupPath>> {
    let given = cgroups_path.filter(|path| !path.is_empty()).unwrap_or(id);
    let refuse = |reason| Error::Path { path: given.to_owned(), reason };
    if given.contains('\0') {
        return Err(refuse("it holds a NUL byte"));
    }
    let inner = match given.strip_prefix('/') {
        Some(rest) => clean(rest, Climb::Stays),
        None => clean(given, Climb::Fails),
    };
    let inner = inner.ok_or_else(|| refuse("it climbs above the runtime's own cgroup"))?;
    if inner.is_empty() {
        return Err(refuse("it names the top of the hierarchy instead of a group for the container"));
    }
    let place = |hierarchy: &Hierarchy| {
        let base = if given.starts_with('/') { "" } else { base_of(layout.mode, hierarchy) };
        GroupPath {
            hierarchy: hierarchy.id,
            controllers: hierarchy.controllers.clone(),
            mountpoint: hierarchy.mountpoint.clone(),
            path: format!("{base}/{inner}"),
        }
    };
    Ok(layout.hierarchies.iter().chain(&layout.unified).map(place).collect())
}

/// What a relative path starts from, without a trailing slash.
fn base_of(mode: Mode, hierarchy: &Hierarchy) -> &str {
    let own = hierarchy.own_path.trim_end_matches('/');
    if mode == Mode::Unified { own.rsplit_once('/').map_or("", |(parent, _)| parent) } else { own }
}

/// What `..` does at the start of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Climb {
    Stays,
    Fails,
}

/// Removes empty parts, `.` and `..`; `None` where it climbs above its start and must not.
fn clean(path: &str, climb: Climb) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() && climb == Climb::Fails => return None,
            ".." => {}
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Cleans the path of a sub-group of a container, for `exec` into it: always below, and empty for the group itself.
///
/// # Errors
/// [`Error::Path`] where it climbs out.
pub fn clean_sub_group(path: &str) -> Result<String> {
    clean(path, Climb::Fails)
        .ok_or_else(|| Error::Path { path: path.to_owned(), reason: "it climbs out of the container's cgroup" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(id: u32, controllers: &[&str], mountpoint: &str, own: &str) -> Hierarchy {
        Hierarchy {
            id,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            mountpoint: mountpoint.to_owned(),
            own_path: own.to_owned(),
        }
    }

    fn hybrid() -> Layout {
        Layout {
            mode: Mode::Hybrid,
            hierarchies: vec![
                hierarchy(4, &["memory"], "/sys/fs/cgroup/memory", "/own/place"),
                hierarchy(1, &["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/"),
            ],
            unified: Some(hierarchy(0, &[], "/sys/fs/cgroup/unified", "/u")),
        }
    }

    fn unified(own: &str) -> Layout {
        let unified = Some(hierarchy(0, &["memory"], "/sys/fs/cgroup", own));
        Layout { mode: Mode::Unified, hierarchies: Vec::new(), unified }
    }

    fn check(layout: &Layout, cgroups_path: Option<&str>, expected: &[&str]) {
        let planned = plan(layout, cgroups_path, "ct1").unwrap();
        assert_eq!(planned.iter().map(GroupPath::dir).collect::<Vec<_>>(), expected, "{cgroups_path:?}");
    }

    #[test]
    fn absolute_is_below_each_mount_point() {
        let expected = [
            "/sys/fs/cgroup/memory/docker/x",
            "/sys/fs/cgroup/cpu,cpuacct/docker/x",
            "/sys/fs/cgroup/unified/docker/x",
        ];
        check(&hybrid(), Some("/docker/x"), &expected);
        check(&hybrid(), Some("//docker/./y/../x/"), &expected);
        check(&hybrid(), Some("/../../docker/x"), &expected);
        check(&unified("/a/b"), Some("/docker/x"), &["/sys/fs/cgroup/docker/x"]);
    }

    #[test]
    fn relative_is_below_the_own_group() {
        let expected =
            ["/sys/fs/cgroup/memory/own/place/ct1", "/sys/fs/cgroup/cpu,cpuacct/ct1", "/sys/fs/cgroup/unified/u/ct1"];
        check(&hybrid(), None, &expected);
        check(&hybrid(), Some(""), &expected);
        check(&hybrid(), Some("ct1"), &expected);
        check(&hybrid(), Some("a/../ct1"), &expected);
    }

    #[test]
    fn relative_on_unified_is_beside_the_own_group() {
        check(&unified("/a/b.scope"), None, &["/sys/fs/cgroup/a/ct1"]);
        check(&unified("/b.scope"), None, &["/sys/fs/cgroup/ct1"]);
        check(&unified("/"), None, &["/sys/fs/cgroup/ct1"]);
    }

    #[test]
    fn refuses_escapes_and_the_top() {
        for path in ["../x", "a/../../x", "..", ".", "/", "/..", "a\0b"] {
            assert!(matches!(plan(&hybrid(), Some(path), "ct1"), Err(Error::Path { .. })), "{path:?}");
        }
    }

    #[test]
    fn sub_groups_stay_inside() {
        assert_eq!(clean_sub_group("/a/./b").unwrap(), "a/b");
        assert_eq!(clean_sub_group("/").unwrap(), "");
        assert!(clean_sub_group("a/../../b").is_err());
    }

    #[test]
    fn is_kept_in_the_state() {
        let planned = plan(&hybrid(), None, "ct1").unwrap();
        let text = serde_json::to_string(&planned).unwrap();
        assert_eq!(serde_json::from_str::<Vec<GroupPath>>(&text).unwrap(), planned);
    }
}
