//! Linux capabilities by name (capabilities(7), include/uapi/linux/capability.h): bit N is the N-th name.

use crate::model::CapSet;

/// The names, in the order of the kernel's numbers.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability, 0..=40. Names are upper case and begin with `CAP_`.
#[must_use]
pub fn bit(name: &str) -> Option<u8> {
    NAMES.iter().zip(0..).find_map(|(known, bit)| (*known == name).then_some(bit))
}

/// The name of a capability by its number.
#[must_use]
pub fn name(bit: u8) -> Option<&'static str> {
    NAMES.get(usize::from(bit)).copied()
}

impl CapSet {
    /// All capabilities that have a name here.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);

    /// Whether the set has the capability with this number.
    #[must_use]
    pub const fn has(self, bit: u8) -> bool {
        bit < 64 && self.0 & (1 << bit) != 0
    }

    /// The capabilities of both sets.
    #[must_use]
    pub const fn and(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// The capabilities of this set that the other lacks.
    #[must_use]
    pub const fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// The names of the set, lowest number first. Numbers without a name are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().zip(0..).filter(move |(_, bit)| self.has(*bit)).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_kernel() {
        let cases =
            [(0, "CAP_CHOWN"), (8, "CAP_SETPCAP"), (21, "CAP_SYS_ADMIN"), (27, "CAP_MKNOD"), (37, "CAP_AUDIT_READ")];
        for (number, text) in cases {
            assert_eq!((bit(text), name(number)), (Some(number), Some(text)));
        }
        assert_eq!(bit("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!((bit("cap_chown"), bit("CHOWN"), name(41)), (None, None, None));
    }

    #[test]
    fn sets_keep_the_order_of_the_kernel() {
        let set = CapSet(1 << 5 | 1 << 0 | 1 << 63);
        assert_eq!(set.names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(CapSet::ALL.names().count(), 41);
        assert_eq!(set.without(CapSet(1)).and(CapSet::ALL), CapSet(1 << 5));
        assert!(!set.has(64));
    }
}
