//! Whether the caller may make a container's group and move a process there: looks, changes nothing.
//!
//! An ordinary user may where somebody delegated a part of a hierarchy to it: on v2 the folder and `cgroup.procs` of both
//! its own group's and the container's nearest common ancestor belong to it (cgroup-v2.rst, "Delegation"), on v1 the folder
//! alone.

use sys::Errno;

use crate::error::Result;
use crate::layout::Layout;
use crate::path::GroupPath;

/// Whether the group can be made, or used where it is there, and entered from the caller's own group.
///
/// # Errors
/// What the kernel says, but that access is denied or that the hierarchy is read-only.
pub fn may_enter(place: &GroupPath, layout: &Layout) -> Result<bool> {
    if !may_make(place)? {
        return Ok(false);
    }
    let own = layout.unified.as_ref().filter(|_| place.is_unified()).map(|unified| unified.own_path.as_str());
    match own {
        None => Ok(true),
        Some(own) => {
            let common = common_ancestor(own, &place.path);
            may_write(&format!("{}{}/cgroup.procs", place.mountpoint, common)).map(|may| may.unwrap_or(true))
        }
    }
}

/// Whether the folder can be made in the deepest of its ancestors that is there; whether processes can be moved into it
/// where it is there itself.
fn may_make(place: &GroupPath) -> Result<bool> {
    let file = if place.is_unified() { "cgroup.procs" } else { "tasks" };
    if let Some(may) = may_write(&format!("{}/{file}", place.dir()))? {
        return Ok(may);
    }
    let mut path = place.path.as_str();
    while let Some((parent, _)) = path.rsplit_once('/') {
        if let Some(may) = may_write(&format!("{}{parent}", place.mountpoint))? {
            return Ok(may);
        }
        path = parent;
    }
    Ok(false)
}

/// Whether a file may be written, or names made in a folder. `None` where nothing is there.
fn may_write(path: &str) -> Result<Option<bool>> {
    match sys::fs::may_write(path) {
        Ok(()) => Ok(Some(true)),
        Err(error) if error.is(Errno::NOENT) => Ok(None),
        Err(error) if [Errno::ACCESS, Errno::PERM, Errno::ROFS].contains(&error.errno()) => Ok(Some(false)),
        Err(error) => Err(error.into()),
    }
}

/// The deepest group that both are in, without a trailing slash: empty for the top.
fn common_ancestor<'a>(own: &'a str, other: &str) -> &'a str {
    let mut end = 0;
    for (mine, theirs) in own.split('/').skip(1).zip(other.split('/').skip(1)) {
        if mine != theirs || mine.is_empty() {
            break;
        }
        end += 1 + mine.len();
    }
    &own[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_group_of_both() {
        for (own, other, expected) in [
            ("/user.slice/a", "/user.slice/b", "/user.slice"),
            ("/user.slice/a", "/user.slice/ab", "/user.slice"),
            ("/user.slice/a", "/user.slice/a/c1", "/user.slice/a"),
            ("/a", "/b", ""),
            ("/", "/b", ""),
        ] {
            assert_eq!(common_ancestor(own, other), expected, "{own} {other}");
        }
    }

    fn place(mountpoint: &std::path::Path, path: &str, hierarchy: u32) -> GroupPath {
        GroupPath {
            hierarchy,
            controllers: Vec::new(),
            mountpoint: mountpoint.to_str().unwrap().to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn what_is_there_decides() {
        let top = std::env::temp_dir().join(format!("cgroup-access-{}", std::process::id()));
        std::fs::create_dir_all(top.join("there")).unwrap();
        assert!(may_make(&place(&top, "/there/c1/below", 3)).unwrap());
        assert!(may_make(&place(&top, "/c1", 3)).unwrap());
        std::fs::remove_dir_all(&top).unwrap();
    }
}
