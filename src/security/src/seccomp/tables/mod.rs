//! Which number a system call has on which architecture.
//!
//! The data are facts of the kernel's headers, taken from the crate `linux-raw-sys` 0.12.1 (Linux 6.17) plus the three
//! calls that came later; `examples/generate_syscall_tables.rs` makes the files again. Every name that a header of one
//! of the eight architectures knows is in the one list of names, and so resolves everywhere: to a number where the call
//! exists, to nothing where it does not. The names are stored as one string without gaps and 16-bit offsets, the numbers
//! as 16 bits, and a hash table leads from a name to its place: 17 KiB in all.

mod aarch64;
mod arm;
mod names;
mod ppc64le;
mod riscv64;
mod s390x;
mod x32;
mod x86;
mod x86_64;

use names::{COUNT, NAMES};

use super::Arch;

/// A call that the architecture does not have.
const NONE: u16 = 0xffff;

/// From here on the table of 32-bit Arm holds private calls.
const ARM_PRIVATE: u16 = 0xf000;

/// Added to the low bits of a private call of 32-bit Arm (`__ARM_NR_BASE`).
pub(super) const ARM_PRIVATE_BASE: u32 = 0xf_0000;

/// The bit that tells x32 from x86-64 (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

const TEXT_LENGTH: usize = text_length();
static TEXT: [u8; TEXT_LENGTH] = text();
static OFFSETS: [u16; COUNT + 1] = offsets();

/// Twice the number of names, so that a search ends after one or two steps. A power of two.
const SLOT_COUNT: usize = 1024;
const EMPTY: u16 = u16::MAX;
/// Places by the hash of their name, the next free slot where two fall together.
static SLOTS: [u16; SLOT_COUNT] = slots();
const _: () = assert!(SLOT_COUNT >= 2 * COUNT);

/// The place of a name in every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

/// Finds a name. `None` for one that no architecture knows.
pub(super) fn find(name: &str) -> Option<Place> {
    let mut slot = hash(name.as_bytes());
    loop {
        let place = usize::from(SLOTS[slot % SLOT_COUNT]);
        if place == EMPTY as usize {
            return None;
        }
        if name_at(place) == name.as_bytes() {
            return Some(Place(place));
        }
        slot += 1;
    }
}

/// The number that the kernel's `seccomp_data.nr` holds for this call; with the bit for x32.
pub(super) fn number(arch: Arch, place: Place) -> Option<u32> {
    let table = match arch {
        Arch::X86_64 => &x86_64::NUMBERS,
        Arch::X86 => &x86::NUMBERS,
        Arch::X32 => &x32::NUMBERS,
        Arch::Aarch64 => &aarch64::NUMBERS,
        Arch::Arm => &arm::NUMBERS,
        Arch::Riscv64 => &riscv64::NUMBERS,
        Arch::Ppc64le => &ppc64le::NUMBERS,
        Arch::S390x => &s390x::NUMBERS,
    };
    let number = table[place.0];
    match arch {
        _ if number == NONE => None,
        Arch::Arm if number >= ARM_PRIVATE => Some(u32::from(number & 0xf) | ARM_PRIVATE_BASE),
        Arch::X32 => Some(u32::from(number) | X32_BIT),
        _ => Some(u32::from(number)),
    }
}

/// Whether a number is one of the private calls of 32-bit Arm, far above all others.
pub(super) fn is_private(arch: Arch, number: u32) -> bool {
    arch == Arch::Arm && number >= ARM_PRIVATE_BASE
}

/// A call that also comes through `socketcall` or `ipc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplexed {
    /// Number of the multiplexer.
    pub(super) number: u32,
    /// Its first argument.
    pub(super) selector: u8,
}

/// Tells how a call comes through a multiplexer, where the architecture has them.
///
/// The selectors are `SYS_` of linux/net.h and those of linux/ipc.h; the multiplexers are 102 and 117 on x86, PowerPC
/// and IBM Z.
pub(super) fn multiplexed(arch: Arch, place: Place) -> Option<Multiplexed> {
    if !arch.multiplexes() {
        return None;
    }
    let (_, number, selector) = MULTIPLEXED[usize::from(MULTIPLEXED_BY_PLACE[place.0].checked_sub(1)?)];
    Some(Multiplexed { number, selector })
}

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// One more than the place in [`MULTIPLEXED`], 0 for other calls.
static MULTIPLEXED_BY_PLACE: [u8; COUNT] = multiplexed_by_place();

const MULTIPLEXED: [(&str, u32, u8); 32] = [
    ("accept", SOCKETCALL, 5),
    ("accept4", SOCKETCALL, 18),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("getpeername", SOCKETCALL, 7),
    ("getsockname", SOCKETCALL, 6),
    ("getsockopt", SOCKETCALL, 15),
    ("listen", SOCKETCALL, 4),
    ("msgctl", IPC, 14),
    ("msgget", IPC, 13),
    ("msgrcv", IPC, 12),
    ("msgsnd", IPC, 11),
    ("recv", SOCKETCALL, 10),
    ("recvfrom", SOCKETCALL, 12),
    ("recvmmsg", SOCKETCALL, 19),
    ("recvmsg", SOCKETCALL, 17),
    ("semctl", IPC, 3),
    ("semget", IPC, 2),
    ("semop", IPC, 1),
    ("semtimedop", IPC, 4),
    ("send", SOCKETCALL, 9),
    ("sendmmsg", SOCKETCALL, 20),
    ("sendmsg", SOCKETCALL, 16),
    ("sendto", SOCKETCALL, 11),
    ("setsockopt", SOCKETCALL, 14),
    ("shmat", IPC, 21),
    ("shmctl", IPC, 24),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shutdown", SOCKETCALL, 13),
    ("socket", SOCKETCALL, 1),
    ("socketpair", SOCKETCALL, 8),
];

/// Every name, in order.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Place)> {
    (0..COUNT).map(|at| (std::str::from_utf8(name_at(at)).expect("the names are ASCII"), Place(at)))
}

fn name_at(place: usize) -> &'static [u8] {
    &TEXT[usize::from(OFFSETS[place])..usize::from(OFFSETS[place + 1])]
}

const fn text_length() -> usize {
    let (mut at, mut length) = (0, 0);
    while at < COUNT {
        length += NAMES[at].len();
        at += 1;
    }
    assert!(length < u16::MAX as usize, "offsets are 16 bits");
    length
}

const fn text() -> [u8; TEXT_LENGTH] {
    let mut text = [0; TEXT_LENGTH];
    let (mut at, mut end) = (0, 0);
    while at < COUNT {
        let name = NAMES[at].as_bytes();
        let mut letter = 0;
        while letter < name.len() {
            text[end] = name[letter];
            end += 1;
            letter += 1;
        }
        at += 1;
    }
    text
}

const fn offsets() -> [u16; COUNT + 1] {
    let mut offsets = [0; COUNT + 1];
    let mut at = 0;
    while at < COUNT {
        offsets[at + 1] = offsets[at] + NAMES[at].len() as u16;
        at += 1;
    }
    offsets
}

/// FNV-1a, 32 bits.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    // The upper bits of the product are the better mixed ones.
    (hash >> 16 ^ hash) as usize
}

const fn slots() -> [u16; SLOT_COUNT] {
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut at = 0;
    while at < COUNT {
        let mut slot = hash(NAMES[at].as_bytes());
        while slots[slot % SLOT_COUNT] != EMPTY {
            slot += 1;
        }
        slots[slot % SLOT_COUNT] = at as u16;
        at += 1;
    }
    slots
}

const fn multiplexed_by_place() -> [u8; COUNT] {
    let mut by_place = [0; COUNT];
    let mut at = 0;
    while at < MULTIPLEXED.len() {
        let mut place = 0;
        while !is_equal(NAMES[place].as_bytes(), MULTIPLEXED[at].0.as_bytes()) {
            place += 1;
        }
        by_place[place] = at as u8 + 1;
        at += 1;
    }
    by_place
}

const fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arch: Arch, name: &str, expected: Option<u32>) {
        assert_eq!(number(arch, find(name).unwrap()), expected, "{name} on {arch:?}");
    }

    #[test]
    fn names_are_sorted_and_found() {
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        assert!(names.is_sorted());
        for (name, place) in all() {
            assert_eq!(find(name), Some(place), "{name}");
        }
        for unknown in ["", "a", "zzz", "acceptx", "no_such_call"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn numbers_of_well_known_calls() {
        check(Arch::X86_64, "read", Some(0));
        check(Arch::X86_64, "clone3", Some(435));
        check(Arch::X86_64, "arch_prctl", Some(158));
        check(Arch::X86_64, "socketcall", None);
        check(Arch::X86, "socketcall", Some(102));
        check(Arch::X86, "ipc", Some(117));
        check(Arch::X86, "arch_prctl", Some(384));
        check(Arch::X86, "_llseek", Some(140));
        check(Arch::X32, "read", Some(0x4000_0000));
        check(Arch::X32, "ioctl", Some(0x4000_0000 + 514));
        check(Arch::Aarch64, "openat", Some(56));
        check(Arch::Aarch64, "open", None);
        check(Arch::Arm, "sync_file_range2", Some(341));
        check(Arch::Arm, "cacheflush", Some(0xf0002));
        check(Arch::Arm, "set_tls", Some(0xf0005));
        check(Arch::Riscv64, "riscv_flush_icache", Some(259));
        check(Arch::Ppc64le, "sync_file_range2", Some(308));
        check(Arch::S390x, "s390_pci_mmio_write", Some(352));
        check(Arch::S390x, "socketcall", Some(102));
        for arch in Arch::ALL {
            let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
            check(arch, "listns", Some(470 | bit));
        }
    }

    /// The generator read text; here the compiler reads the same headers.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_agree_with_the_kernel_headers() {
        use linux_raw_sys::general as kernel;
        for (name, expected) in [
            ("accept4", kernel::__NR_accept4),
            ("bpf", kernel::__NR_bpf),
            ("capset", kernel::__NR_capset),
            ("cachestat", kernel::__NR_cachestat),
            ("close_range", kernel::__NR_close_range),
            ("execveat", kernel::__NR_execveat),
            ("file_setattr", kernel::__NR_file_setattr),
            ("futex_waitv", kernel::__NR_futex_waitv),
            ("io_uring_setup", kernel::__NR_io_uring_setup),
            ("landlock_restrict_self", kernel::__NR_landlock_restrict_self),
            ("map_shadow_stack", kernel::__NR_map_shadow_stack),
            ("mseal", kernel::__NR_mseal),
            ("open_tree_attr", kernel::__NR_open_tree_attr),
            ("openat2", kernel::__NR_openat2),
            ("personality", kernel::__NR_personality),
            ("rseq", kernel::__NR_rseq),
            ("uretprobe", kernel::__NR_uretprobe),
            ("vserver", kernel::__NR_vserver),
            ("write", kernel::__NR_write),
            ("_sysctl", kernel::__NR__sysctl),
        ] {
            check(Arch::X86_64, name, Some(expected));
        }
    }

    #[test]
    fn multiplexed_calls_are_known() {
        for (name, number, selector) in MULTIPLEXED {
            let place = find(name).unwrap();
            assert_eq!(multiplexed(Arch::X86, place), Some(Multiplexed { number, selector }));
            assert_eq!(multiplexed(Arch::X86_64, place), None);
        }
        assert_eq!(multiplexed(Arch::X86, find("read").unwrap()), None);
    }

    #[test]
    fn no_number_is_used_twice() {
        // Arm calls number 341 by two names, PowerPC has none.
        for arch in Arch::ALL {
            let mut numbers: Vec<u32> = all().filter_map(|(_, place)| number(arch, place)).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(all - numbers.len(), usize::from(arch == Arch::Arm), "{arch:?}");
            assert!(all > 300, "{arch:?} has only {all} calls");
        }
    }
}
