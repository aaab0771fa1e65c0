//! Names of units and slices, and where their groups are. Pure.
//!
//! Source: runc's docs/systemd.md, "systemd unit name and placement"; systemd.slice(5); systemd.unit(5).

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// `prefix-name.scope`, or a `.slice`.
    pub unit: String,
    /// The slice that it lies in.
    pub slice: String,
    /// Its group below the manager's, absolute: `/a.slice/a-b.slice/prefix-name.scope`.
    pub path: String,
}

/// Whether a unit is a slice, which has no processes of its own to be started with.
#[must_use]
pub fn is_slice(unit: &str) -> bool {
    unit.ends_with(SLICE)
}

/// Why there is no such unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No `slice:prefix:name`.
    #[error("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead")]
    Format(String),
    /// No slice of that name can be.
    #[error("invalid slice name: {0:?}")]
    Slice(String),
    /// No unit of that name can be.
    #[error("invalid unit name: {0:?} (letters, digits and : - _ . \\ are allowed, 255 at most)")]
    Unit(String),
}

const SLICE: &str = ".slice";
const SCOPE: &str = ".scope";
/// `UNIT_NAME_MAX` of systemd: file names have no more.
const MAX_NAME: usize = 255;

/// Places a container: `slice:prefix:name`, each of which may be empty.
///
/// Without a path it is `:skep:ID`; characters of an id that a unit's name cannot have are escaped (`+` is `\x2b`).
/// `default_slice` is `system.slice`, or `user.slice` with a user's manager. A name that ends in `.slice` is the unit's.
///
/// # Errors
/// [`NameError`].
pub fn place(cgroups_path: Option<&str>, id: &str, default_slice: &str) -> Result<Placement, NameError> {
    let given = cgroups_path.filter(|path| !path.is_empty());
    let (slice, prefix, name) = match given {
        None => ("", "skep", escape(id)),
        Some(path) => {
            let parts: Vec<&str> = path.split(':').collect();
            let [slice, prefix, name] = parts[..] else { return Err(NameError::Format(path.to_owned())) };
            (slice, prefix, name.to_owned())
        }
    };
    let slice = if slice.is_empty() { default_slice } else { slice };
    let unit = if is_slice(&name) { name } else { format!("{prefix}-{name}{SCOPE}") };
    check_unit(&unit)?;
    let path = match is_slice(&unit) {
        // Its own name says where a slice is.
        true => {
            expand_slice(slice)?;
            expand_slice(&unit)?
        }
        false => format!("{}/{unit}", expand_slice(slice)?),
    };
    if path.is_empty() {
        return Err(NameError::Unit(unit));
    }
    Ok(Placement { unit, slice: slice.to_owned(), path })
}

/// The group of a slice below its manager's: `/a.slice/a-b.slice` for `a-b.slice`, empty for the root `-.slice`.
///
/// # Errors
/// [`NameError::Slice`].
pub fn expand_slice(slice: &str) -> Result<String, NameError> {
    let invalid = || NameError::Slice(slice.to_owned());
    let stem = slice.strip_suffix(SLICE).ok_or_else(invalid)?;
    if stem == "-" || slice == "-" {
        return Ok(String::new());
    }
    check_unit(slice).map_err(|_| invalid())?;
    if stem.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    let ends = stem.match_indices('-').map(|(end, _)| end).chain([stem.len()]);
    Ok(ends.map(|end| format!("/{}{SLICE}", &stem[..end])).collect())
}

/// systemd.unit(5): letters, digits and `: - _ . \`; `@` would make it an instance of a template.
fn check_unit(name: &str) -> Result<(), NameError> {
    let known = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
    if name.len() > MAX_NAME || name.starts_with('.') || !name.chars().all(known) {
        return Err(NameError::Unit(name.to_owned()));
    }
    Ok(())
}

/// systemd-escape(1) of what a container's id may have and a unit's name may not.
fn escape(id: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    id.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: Option<&str>, unit: &str, slice: &str, group: &str) {
        let expected = Placement { unit: unit.to_owned(), slice: slice.to_owned(), path: group.to_owned() };
        assert_eq!(place(path, "ct1", "system.slice"), Ok(expected), "{path:?}");
    }

    #[test]
    fn containers_are_scopes_in_slices() {
        check(None, "skep-ct1.scope", "system.slice", "/system.slice/skep-ct1.scope");
        check(Some(""), "skep-ct1.scope", "system.slice", "/system.slice/skep-ct1.scope");
        check(Some(":docker:abc"), "docker-abc.scope", "system.slice", "/system.slice/docker-abc.scope");
        let pods = "kubepods-burstable-pod1.slice";
        let group = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-x.scope";
        check(Some("kubepods-burstable-pod1.slice:cri-containerd:x"), "cri-containerd-x.scope", pods, group);
        check(Some("-.slice:p:n"), "p-n.scope", "-.slice", "/p-n.scope");
        check(Some("machine.slice::n"), "-n.scope", "machine.slice", "/machine.slice/-n.scope");
    }

    #[test]
    fn a_name_that_ends_in_slice_is_the_unit() {
        check(Some("a.slice:ignored:a-b.slice"), "a-b.slice", "a.slice", "/a.slice/a-b.slice");
        assert!(is_slice("a-b.slice") && !is_slice("a-b.scope"));
    }

    #[test]
    fn what_systemd_would_refuse_is_told_before() {
        let check = |path: &str, expected: fn(String) -> NameError, text: &str| {
            assert_eq!(place(Some(path), "i", "system.slice"), Err(expected(text.to_owned())), "{path}");
        };
        for path in ["/foo/bar", "a:b", "a:b:c:d"] {
            check(path, NameError::Format, path);
        }
        for slice in ["a", "a--b.slice", "-a.slice", "a-.slice", ".slice", "a/b.slice", "a b.slice"] {
            check(&format!("{slice}:p:n"), NameError::Slice, slice);
        }
        check("a.slice:p:../x", NameError::Unit, "p-../x.scope");
        check("a.slice:p:x@y", NameError::Unit, "p-x@y.scope");
        check("a.slice:p:-.slice", NameError::Unit, "-.slice");
        let long = "n".repeat(250);
        check(&format!("a.slice:p:{long}"), NameError::Unit, &format!("p-{long}.scope"));
    }

    #[test]
    fn ids_are_escaped() {
        assert_eq!(place(None, "a+b", "user.slice").unwrap().path, "/user.slice/skep-a\\x2bb.scope");
    }
}
