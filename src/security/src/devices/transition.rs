//! Lines for the files `devices.allow` and `devices.deny` of a v1 cgroup.

use super::set::{Access, DeviceError, Key, RuleSet};

/// Which file a line goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum V1File {
    /// `devices.allow`.
    Allow,
    /// `devices.deny`.
    Deny,
}

impl V1File {
    /// Name of the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            V1File::Allow => "devices.allow",
            V1File::Deny => "devices.deny",
        }
    }

    const fn of(allow: bool) -> V1File {
        if allow { V1File::Allow } else { V1File::Deny }
    }
}

/// One write to one file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct V1Line {
    /// Where to.
    pub file: V1File,
    /// What, such as `c 1:3 rwm`.
    pub text: String,
}

/// Renders the writes that bring a new, empty cgroup to a set, whatever it inherited from its parent.
///
/// The first, `a *:* rwm`, drops what was inherited: for a moment it denies (or allows) everything, so it is for a cgroup
/// without tasks; the kernel refuses it for one with children.
#[must_use]
pub fn initial(to: &RuleSet) -> Vec<V1Line> {
    let mut lines = vec![V1Line { file: V1File::of(to.default_allow), text: "a *:* rwm".to_owned() }];
    lines.extend(to.exceptions.iter().map(|(key, access)| line(!to.default_allow, *key, *access)));
    lines
}

/// Renders the fewest writes that lead a cgroup with tasks from one set to another.
///
/// What both sets allow stays allowed after each write, and what both deny stays denied: new exceptions are added first,
/// then the old ones are taken away. `from` must be what the cgroup has, to the letter: the kernel takes away an
/// exception by its exact kind and numbers only.
///
/// # Errors
/// [`DeviceError::DefaultChange`] when the defaults differ. An allow list may become the set that allows everything,
/// though: two more exceptions say the same.
pub fn transition(from: &RuleSet, to: &RuleSet) -> Result<Vec<V1Line>, DeviceError> {
    if from.default_allow != to.default_allow {
        return if to.allows_everything() { Ok(everything()) } else { Err(DeviceError::DefaultChange) };
    }
    let has = |set: &RuleSet, key: &Key| set.exceptions.get(key).copied().unwrap_or_default();
    let more = |a: &RuleSet, b: &RuleSet, adds: bool| {
        let differing = a.exceptions.iter().filter_map(|(key, access)| {
            let access = access.without(has(b, key));
            (!access.is_empty()).then(|| line(to.default_allow != adds, *key, access))
        });
        differing.collect::<Vec<_>>()
    };
    let mut lines = more(to, from, true);
    lines.extend(more(from, to, false));
    Ok(lines)
}

fn everything() -> Vec<V1Line> {
    let any = |character| Key { major: None, minor: None, character };
    vec![line(true, any(true), Access::ALL), line(true, any(false), Access::ALL)]
}

fn line(allow: bool, key: Key, access: Access) -> V1Line {
    V1Line { file: V1File::of(allow), text: format!("{key} {access}") }
}
