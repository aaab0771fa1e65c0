//! Landlock rules of a container: the names of rights, and the typed rules.
//!
//! The specification has no field for Landlock, so the rules stand as JSON text in the annotation [`ANNOTATION`]
//! (docs/landlock.md). Numbers are those of include/uapi/linux/landlock.h; the kernel's ABI version grows with each set of
//! rights that it learns.

use serde::{Serialize, Serializer};

/// The annotation that holds the rules.
pub const ANNOTATION: &str = "io.skep.landlock";

/// A right by name: its bit, and the first ABI version that has it.
pub(crate) type Right = (u64, u32);

/// LANDLOCK_ACCESS_FS_*.
pub(crate) const FILE_SYSTEM: [(&str, Right); 16] = [
    ("execute", (1, 1)),
    ("write_file", (1 << 1, 1)),
    ("read_file", (1 << 2, 1)),
    ("read_dir", (1 << 3, 1)),
    ("remove_dir", (1 << 4, 1)),
    ("remove_file", (1 << 5, 1)),
    ("make_char", (1 << 6, 1)),
    ("make_dir", (1 << 7, 1)),
    ("make_reg", (1 << 8, 1)),
    ("make_sock", (1 << 9, 1)),
    ("make_fifo", (1 << 10, 1)),
    ("make_block", (1 << 11, 1)),
    ("make_sym", (1 << 12, 1)),
    ("refer", (1 << 13, 2)),
    ("truncate", (1 << 14, 3)),
    ("ioctl_dev", (1 << 15, 5)),
];

/// LANDLOCK_ACCESS_NET_*.
pub(crate) const NETWORK: [(&str, Right); 2] = [("bind_tcp", (1, 4)), ("connect_tcp", (1 << 1, 4))];

/// LANDLOCK_SCOPE_*.
pub(crate) const SCOPE: [(&str, Right); 2] = [("abstract_unix_socket", (1, 6)), ("signal", (1 << 1, 6))];

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Files and folders.
    FileSystem,
    /// TCP ports.
    Network,
    /// What lies outside of the process' own domain.
    Scope,
}

impl Kind {
    /// Every right of this kind by name.
    pub(crate) const fn table(self) -> &'static [(&'static str, Right)] {
        match self {
            Kind::FileSystem => &FILE_SYSTEM,
            Kind::Network => &NETWORK,
            Kind::Scope => &SCOPE,
        }
    }
}

/// Some rights of one kind, as the kernel's mask. Prints as a list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// What they are about.
    pub kind: Kind,
    /// LANDLOCK_ACCESS_FS_*, LANDLOCK_ACCESS_NET_* or LANDLOCK_SCOPE_*.
    pub mask: u64,
}

impl Rights {
    /// None of this kind.
    #[must_use]
    pub const fn none(kind: Kind) -> Rights {
        Rights { kind, mask: 0 }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.mask == 0
    }

    /// Those that a kernel with this ABI version knows.
    #[must_use]
    pub fn known_to(self, abi: u32) -> Rights {
        let known = self.kind.table().iter().filter(|(_, (_, since))| *since <= abi);
        Rights { mask: self.mask & known.fold(0, |mask, (_, (bit, _))| mask | bit), ..self }
    }

    /// Those that the other lacks.
    #[must_use]
    pub const fn without(self, other: Rights) -> Rights {
        Rights { mask: self.mask & !other.mask, ..self }
    }

    /// Those that a file has which is no folder (`ACCESS_FILE` in security/landlock/fs.c).
    #[must_use]
    pub fn of_a_file(self) -> Rights {
        const FILE: [&str; 5] = ["execute", "write_file", "read_file", "truncate", "ioctl_dev"];
        let of_file = self.kind.table().iter().filter(|(name, _)| FILE.contains(name));
        Rights { mask: self.mask & of_file.fold(0, |mask, (_, (bit, _))| mask | bit), ..self }
    }

    /// The ABI version that has all of them; 0 for none.
    #[must_use]
    pub fn needed_abi(self) -> u32 {
        self.entries().map(|(_, (_, since))| *since).max().unwrap_or(0)
    }

    /// Their names, lowest bit first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.entries().map(|(name, _)| *name)
    }

    fn entries(self) -> impl Iterator<Item = &'static (&'static str, Right)> {
        self.kind.table().iter().filter(move |(_, (bit, _))| self.mask & bit != 0)
    }
}

impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.names())
    }
}

/// The rules of a container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Landlock {
    /// Rights to files that are denied where no rule grants them.
    pub file_system: Rights,
    /// Rights to ports that are denied where no rule grants them.
    pub network: Rights,
    /// What is denied towards processes outside of the domain.
    pub scoped: Rights,
    /// What is granted below paths.
    pub paths: Vec<PathRule>,
    /// What is granted for ports.
    pub ports: Vec<PortRule>,
    /// Whether a kernel that does not know all of it enforces what it knows.
    #[serde(skip)]
    pub best_effort: bool,
}

/// Rights to what is at and below some paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathRule {
    /// What is granted.
    pub allowed: Rights,
    /// Absolute paths inside the container.
    pub paths: Vec<String>,
}

/// Rights to some TCP ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortRule {
    /// What is granted.
    pub allowed: Rights,
    /// Port numbers; 0 grants a bind to a port that the kernel chooses.
    pub ports: Vec<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abi_knows_what_came_until_then() {
        let all = Rights { kind: Kind::FileSystem, mask: u64::MAX };
        let counts = [0, 1, 2, 3, 4, 5, 99].map(|abi| all.known_to(abi).names().count());
        assert_eq!(counts, [0, 13, 14, 15, 15, 16, 16]);
        let all = Rights { kind: Kind::Network, mask: 3 };
        assert_eq!((all.known_to(3).mask, all.known_to(4).mask, all.needed_abi()), (0, 3, 4));
        let all = Rights { kind: Kind::Scope, mask: 3 };
        assert_eq!((all.known_to(5).mask, all.known_to(6).mask), (0, 3));
    }

    #[test]
    fn a_file_has_no_rights_of_folders() {
        let all = Rights { kind: Kind::FileSystem, mask: u64::MAX };
        assert_eq!(
            all.of_a_file().names().collect::<Vec<_>>(),
            ["execute", "write_file", "read_file", "truncate", "ioctl_dev"]
        );
        assert_eq!(
            serde_json::to_string(&all.of_a_file().known_to(1)).unwrap(),
            r#"["execute","write_file","read_file"]"#
        );
    }
}
