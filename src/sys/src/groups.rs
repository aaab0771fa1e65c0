//! Where a process's groups are mounted: `/proc/PID/cgroup` against mountinfo. Pure.
//!
//! A whole system makes groups below its own and moves itself into them, so what a process says of itself is cut back to the
//! group that its container was given.

use crate::mountinfo::Mount;

/// The folder of a group in a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub dir: String,
    /// Length of the part of it where the hierarchy is mounted: nothing above has limits.
    pub top: usize,
    /// Whether it is one of cgroup v2.
    pub unified: bool,
}

/// The folders of a process's group for a controller, that of v1 before that of v2, which has all the others. `of_process` is
/// the text of `/proc/PID/cgroup`; `own` is how the path of the container's group ends, with a slash at its beginning, and
/// empty for the group in which the process is.
pub fn find<'a>(
    of_process: &'a str,
    mounts: &'a [Mount],
    controller: &'a str,
    own: &'a str,
) -> impl Iterator<Item = Place> + 'a {
    [false, true].into_iter().filter_map(move |unified| {
        let is_of = |controllers: &str| match unified {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|name| name == controller),
        };
        let path = lines(of_process).find(|(controllers, _)| is_of(controllers)).map(|(_, path)| cut(path, own))?;
        let mount = mounts.iter().find(|mount| match unified {
            true => mount.kind == "cgroup2",
            false => mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller),
        })?;
        // In a container the part that is mounted may be its own.
        let path = crate::mountinfo::below(path, &mount.root).unwrap_or(path);
        let dir = format!("{}{}", mount.mountpoint, path.trim_end_matches('/'));
        Some(Place { dir, top: mount.mountpoint.len(), unified })
    })
}

/// Controllers and path of each line of `/proc/PID/cgroup`.
pub fn lines(of_process: &str) -> impl Iterator<Item = (&str, &str)> {
    of_process.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    })
}

/// The path down to the container's own group; all of it where that is not among its parents.
#[must_use]
pub fn cut<'p>(path: &'p str, own: &str) -> &'p str {
    if own.is_empty() {
        return path;
    }
    let ends = |at: &usize| path[at + own.len()..].starts_with('/') || path.len() == at + own.len();
    let found = path.match_indices(own).map(|(at, _)| at).find(ends);
    found.map_or(path, |at| &path[..at + own.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_s_group_is_found_in_the_path_of_a_process() {
        assert_eq!(cut("/skep/web1/init.scope", "/skep/web1"), "/skep/web1");
        assert_eq!(cut("/a/skep/web1", "/skep/web1"), "/a/skep/web1");
        assert_eq!(cut("/skep/web10/skep/web1/x", "/skep/web1"), "/skep/web10/skep/web1");
        assert_eq!(cut("/elsewhere", "/skep/web1"), "/elsewhere");
        assert_eq!(cut("/elsewhere", ""), "/elsewhere");
    }

    #[test]
    fn a_part_that_is_mounted_is_not_in_the_folder_twice() {
        let mounts: Vec<Mount> = crate::mountinfo::parse(
            "1 0 0:1 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             2 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        )
        .collect();
        let of_process = "3:memory:/docker/x/skep/web1/init.scope\n0::/skep/web1\n";
        let found: Vec<Place> = find(of_process, &mounts, "memory", "/skep/web1").collect();
        let place = |dir: &str, top: &str, unified| Place { dir: dir.to_owned(), top: top.len(), unified };
        assert_eq!(
            found,
            [
                place("/sys/fs/cgroup/memory/skep/web1", "/sys/fs/cgroup/memory", false),
                place("/sys/fs/cgroup/unified/skep/web1", "/sys/fs/cgroup/unified", true),
            ]
        );
        assert_eq!(find(of_process, &mounts, "pids", "").map(|place| place.unified).collect::<Vec<_>>(), [true]);
    }
}
