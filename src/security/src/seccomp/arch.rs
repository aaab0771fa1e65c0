//! The architectures that a filter can tell apart.

/// A system call convention with a table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// `SCMP_ARCH_X86_64`.
    X86_64,
    /// `SCMP_ARCH_X86`.
    X86,
    /// `SCMP_ARCH_X32`: x86-64 with 32-bit pointers.
    X32,
    /// `SCMP_ARCH_AARCH64`.
    Aarch64,
    /// `SCMP_ARCH_ARM`.
    Arm,
    /// `SCMP_ARCH_RISCV64`.
    Riscv64,
    /// `SCMP_ARCH_PPC64LE`.
    Ppc64le,
    /// `SCMP_ARCH_S390X`.
    S390x,
}

/// Architectures that the specification names and this crate has no table for, without `SCMP_ARCH_`, in lower case.
static WITHOUT_TABLE: [&str; 15] = [
    "loongarch64",
    "m68k",
    "mips",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "s390",
    "sh",
    "sheb",
];

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 8] =
        [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm, Arch::Riscv64, Arch::Ppc64le, Arch::S390x];

    /// What this program is built for. `None` where there is no table.
    pub const NATIVE: Option<Arch> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
        Some(Arch::X86_64)
    } else if cfg!(target_arch = "x86") {
        Some(Arch::X86)
    } else if cfg!(target_arch = "aarch64") {
        Some(Arch::Aarch64)
    } else if cfg!(target_arch = "arm") {
        Some(Arch::Arm)
    } else if cfg!(target_arch = "riscv64") {
        Some(Arch::Riscv64)
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        Some(Arch::Ppc64le)
    } else if cfg!(target_arch = "s390x") {
        Some(Arch::S390x)
    } else {
        None
    };

    /// The name in the specification without `SCMP_ARCH_`, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "aarch64",
            Arch::Arm => "arm",
            Arch::Riscv64 => "riscv64",
            Arch::Ppc64le => "ppc64le",
            Arch::S390x => "s390x",
        }
    }

    /// What `seccomp_data.arch` holds (`AUDIT_ARCH_` in linux/audit.h): the ELF machine number, 0x8000_0000 for 64
    /// bits, 0x4000_0000 for little endian. x32 has that of x86-64.
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
            Arch::Riscv64 => 0xc000_00f3,
            Arch::Ppc64le => 0xc000_0015,
            Arch::S390x => 0x8000_0016,
        }
    }

    /// Whether arguments are compared with all 64 bits. On the others, x32 among them, the upper half is ignored, as
    /// libseccomp does.
    #[must_use]
    pub const fn compares_64_bits(self) -> bool {
        !matches!(self, Arch::X86 | Arch::X32 | Arch::Arm)
    }

    /// Whether the upper half of an argument stands first in memory.
    #[must_use]
    pub const fn is_big_endian(self) -> bool {
        matches!(self, Arch::S390x)
    }

    /// Whether socket and System V IPC calls may also come through `socketcall` (102) and `ipc` (117).
    #[must_use]
    pub const fn multiplexes(self) -> bool {
        matches!(self, Arch::X86 | Arch::Ppc64le | Arch::S390x)
    }
}

/// What a name of the profile's list of architectures stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// One with a table.
    Known(Arch),
    /// A real one without a table; its calls get what foreign architectures get.
    WithoutTable,
    /// No such architecture.
    Unknown,
}

/// Looks a name up. Accepts the specification's spelling too.
pub(super) fn find(name: &str) -> Named {
    let lower = name.to_ascii_lowercase();
    let short = lower.strip_prefix("scmp_arch_").unwrap_or(&lower);
    match Arch::ALL.into_iter().find(|arch| arch.name() == short) {
        Some(arch) => Named::Known(arch),
        None if WITHOUT_TABLE.contains(&short) => Named::WithoutTable,
        None => Named::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_both_spellings() {
        for arch in Arch::ALL {
            assert_eq!(find(arch.name()), Named::Known(arch));
            assert_eq!(find(&format!("SCMP_ARCH_{}", arch.name().to_uppercase())), Named::Known(arch));
        }
        assert_eq!(find("mips64n32"), Named::WithoutTable);
        assert_eq!(find("vax"), Named::Unknown);
        assert_eq!(find(""), Named::Unknown);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn this_machine_is_native() {
        assert_eq!(Arch::NATIVE, Some(Arch::X86_64));
    }
}
