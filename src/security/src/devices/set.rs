//! The effective set of device rules.

use std::collections::BTreeMap;
use std::fmt;

use runtime_spec::model::{DeviceRule, DeviceRuleKind};

/// What may be done with a device: any of read, write, mknod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access(u8);

impl Access {
    /// mknod; the numbers are those of `BPF_DEVCG_ACC_` in linux/bpf.h.
    pub const MKNOD: Access = Access(1);
    /// Read.
    pub const READ: Access = Access(2);
    /// Write.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// The number that the kernel shows a device program.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether it is none of the three.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in one or the other.
    #[must_use]
    pub const fn union(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn without(self, other: Access) -> Access {
        Access(self.0 & !other.0)
    }
}

/// Prints as `rwm`.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (access, letter) in [(Access::READ, "r"), (Access::WRITE, "w"), (Access::MKNOD, "m")] {
            if self.contains(access) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Which devices: a kind and numbers, each of which may be any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    /// Character devices; block devices otherwise.
    pub(super) character: bool,
}

impl Key {
    /// Whether every device of `other` is one of this.
    fn covers(self, other: Key) -> bool {
        self.character == other.character
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// Whether a device can be one of both.
    fn overlaps(self, other: Key) -> bool {
        let agree = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.character == other.character && agree(self.major, other.major) && agree(self.minor, other.minor)
    }
}

/// Prints as `c 1:*`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.character { "c " } else { "b " })?;
        match self.major {
            Some(major) => write!(f, "{major}:")?,
            None => f.write_str("*:")?,
        }
        match self.minor {
            Some(minor) => write!(f, "{minor}"),
            None => f.write_str("*"),
        }
    }
}

/// Devices that are treated otherwise than the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Character or block.
    pub kind: DeviceRuleKind,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// What is allowed, or denied where the default is to allow. Never empty.
    pub access: Access,
}

/// What a container may do with which device.
///
/// A request passes when the default is to deny and **one** exception covers all of it (a read-write open needs one that
/// has both), or when the default is to allow and no exception has any part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSet {
    /// Whether devices that no exception names are allowed.
    pub default_allow: bool,
    pub(super) exceptions: BTreeMap<Key, Access>,
}

/// Why a list of rules cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A v1 cgroup keeps a list of exceptions; it would silently ignore such a rule, and leave open what was denied.
    #[error("device rule \"{rule}\" would cut a hole into the earlier, wider rule \"{wider}\"")]
    Hole {
        /// The rule that cannot be had.
        rule: String,
        /// The rule that stands against it.
        wider: String,
    },
    /// The default would have to change, which the kernel refuses for a cgroup that has children and which denies or
    /// allows everything for a moment.
    #[error("devices cannot change between an allow list and a deny list while the container runs")]
    DefaultChange,
    /// A line of `devices.list` that is not understood.
    #[error("unexpected line {0:?} in devices.list")]
    List(String),
}

/// Reduces rules to a set. The start is to deny everything.
///
/// A rule for both kinds without limits (`a *:* rwm`) is a new beginning, as in the kernel. So is one that *denies*
/// both kinds with any limit (the kernel ignores the limit, and to deny more is the safe reading). One that *allows* both
/// kinds with a limit means just what it says, here; the kernel, and runc with it, would allow everything.
/// Exceptions that another one makes pointless are dropped in the end.
///
/// # Errors
/// [`DeviceError::Hole`] for a rule that takes away a part of what an earlier, wider one gave. runc refuses it too.
pub fn emulate(rules: &[DeviceRule]) -> Result<RuleSet, DeviceError> {
    let mut set = RuleSet::default();
    for rule in rules {
        set.apply(rule)?;
    }
    set.minimize();
    Ok(set)
}

impl RuleSet {
    /// Whether everything is allowed, so that no program is needed.
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// The exceptions, sorted by major number, minor number (any first) and kind (block first).
    pub fn exceptions(&self) -> impl Iterator<Item = Exception> {
        self.exceptions.iter().map(|(key, access)| Exception {
            kind: if key.character { DeviceRuleKind::Char } else { DeviceRuleKind::Block },
            major: key.major,
            minor: key.minor,
            access: *access,
        })
    }

    /// Whether a request passes.
    #[must_use]
    pub fn allows(&self, kind: DeviceRuleKind, major: u32, minor: u32, access: Access) -> bool {
        let device = Key { major: Some(major), minor: Some(minor), character: kind == DeviceRuleKind::Char };
        let mut matching = self.exceptions.iter().filter(|(key, _)| key.covers(device)).map(|(_, access)| *access);
        if self.default_allow {
            matching.all(|denied| denied.intersection(access).is_empty())
        } else {
            matching.any(|allowed| allowed.contains(access))
        }
    }

    /// Reads the content of a v1 cgroup's `devices.list`. Of a deny list the kernel shows only that it is one.
    ///
    /// # Errors
    /// [`DeviceError::List`] for a line that the kernel does not write.
    pub fn parse_list(text: &str) -> Result<RuleSet, DeviceError> {
        let mut set = RuleSet::default();
        for line in text.lines() {
            if line.starts_with("a ") {
                return Ok(RuleSet { default_allow: true, exceptions: BTreeMap::new() });
            }
            let (key, access) = parse_line(line).ok_or_else(|| DeviceError::List(line.to_owned()))?;
            set.widen(key, access);
        }
        Ok(set)
    }

    fn apply(&mut self, rule: &DeviceRule) -> Result<(), DeviceError> {
        let access = access(rule);
        let unlimited = rule.major.is_none() && rule.minor.is_none() && access == Access::ALL;
        if rule.kind.is_none() && (unlimited || !rule.allow) {
            *self = RuleSet { default_allow: rule.allow, exceptions: BTreeMap::new() };
            return Ok(());
        }
        for kind in [DeviceRuleKind::Char, DeviceRuleKind::Block] {
            if rule.kind.is_none_or(|only| only == kind) {
                let key = Key { major: rule.major, minor: rule.minor, character: kind == DeviceRuleKind::Char };
                if rule.allow == self.default_allow {
                    self.narrow(key, access)?;
                } else {
                    self.widen(key, access);
                }
            }
        }
        Ok(())
    }

    /// Adds to the exceptions.
    fn widen(&mut self, key: Key, access: Access) {
        if !access.is_empty() {
            let known = self.exceptions.entry(key).or_default();
            *known = known.union(access);
        }
    }

    /// Takes from the exceptions: from those that lie within `key`.
    fn narrow(&mut self, key: Key, access: Access) -> Result<(), DeviceError> {
        let stands_against = |(wider, has): &(&Key, &Access)| {
            !key.covers(**wider) && key.overlaps(**wider) && !has.intersection(access).is_empty()
        };
        if let Some((wider, has)) = self.exceptions.iter().find(stands_against) {
            return Err(DeviceError::Hole { rule: format!("{key} {access}"), wider: format!("{wider} {has}") });
        }
        self.exceptions.retain(|inner, has| {
            if key.covers(*inner) {
                *has = has.without(access);
            }
            !has.is_empty()
        });
        Ok(())
    }

    /// Drops exceptions that others make pointless.
    fn minimize(&mut self) {
        let all: Vec<(Key, Access)> = self.exceptions.iter().map(|(key, access)| (*key, *access)).collect();
        let default_allow = self.default_allow;
        self.exceptions.retain(|key, access| {
            let wider = all.iter().filter(|(other, _)| other != key && other.covers(*key));
            if default_allow {
                // Any part that is denied already.
                *access = wider.fold(*access, |left, (_, denied)| left.without(*denied));
                !access.is_empty()
            } else {
                // Only the whole: one exception must cover a request.
                !wider.into_iter().any(|(_, allowed)| allowed.contains(*access))
            }
        });
    }
}

fn access(rule: &DeviceRule) -> Access {
    let mut access = Access::default();
    for (set, bit) in [(rule.read, Access::READ), (rule.write, Access::WRITE), (rule.mknod, Access::MKNOD)] {
        if set {
            access = access.union(bit);
        }
    }
    access
}

/// Parses `c 1:* rwm`.
fn parse_line(line: &str) -> Option<(Key, Access)> {
    let (kind, rest) = line.split_once(' ')?;
    let (numbers, letters) = rest.split_once(' ')?;
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let character = match kind {
        "c" => true,
        "b" => false,
        _ => return None,
    };
    let mut access = Access::default();
    for letter in letters.chars() {
        access = access.union(match letter {
            'r' => Access::READ,
            'w' => Access::WRITE,
            'm' => Access::MKNOD,
            _ => return None,
        });
    }
    Some((Key { major: number(major)?, minor: number(minor)?, character }, access))
}
