//! Compiles a system call profile into a filter program for the kernel.
//!
//! It makes a program for `seccomp(2)`; it never loads one and never looks at the running system. The way through:
//!
//! ```text
//! profile -> rules: number -> verdict, by architecture   (names looked up, rules in their order of precedence)
//!         -> ranges: numbers with equal verdicts merged, the gaps filled
//!         -> emit:   dispatch on the architecture, a balanced tree of ranges, chains of argument comparisons
//! ```
//!
//! # What a call gets
//! * The architecture that the program is built for is always filtered, the listed ones too. A call of any other one,
//!   x32 where it is not listed among them, gets [`BAD_ARCH`].
//! * A name that no table knows, or that an architecture does not have, has no effect there.
//! * Several rules for one call: see the module `rules` and, for overlapping conditions, `order`.
//! * Where the default action is not allow, log or trace, a number above the highest one that the profile names for that
//!   architecture gets `ENOSYS`, so that C libraries fall back to older calls. A name counts whatever its rule says, so
//!   does a multiplexer that a name stands for (`socketcall` for `socket`). Without any known name there is no such
//!   limit. On IBM Z number 0 gets `ENOSYS` too: the kernel puts it there for numbers that it does not know.
//! * Socket and System V IPC calls are also filtered by the first argument of `socketcall` and `ipc` where an
//!   architecture has them. A multiplexer passes a pointer instead of the arguments, so a condition on the first
//!   argument is lost there; the others compare the multiplexer's own arguments, as libseccomp does.
//!
//! # Differences from runc with libseccomp 2.5
//! * There, the highest number does not count sockets and IPC calls on architectures with multiplexers, so a profile of
//!   just `socket` denies `socketcall` with `ENOSYS`; on 32-bit Arm it counts private calls (0xf0000 and up), so that
//!   naming one of them lets newer calls fail with the default action; number 0 alone counts as no number at all.
//! * There, contradicting rules with equal conditions are refused; here the first one decides.
//! * There, overlapping conditional rules of one call may get a wrong answer: a comparison looks at the wrong word after
//!   the rule before it failed in its second word, and the upper halves of several rules share one action. Here the
//!   first rule that holds, in the order of the module `order`, decides.
//! * Names that are younger than the library are unknown there.

mod arch;
mod emit;
mod order;
mod ranges;
mod rules;
mod tables;

use runtime_spec::model::{Seccomp, SeccompAction};

pub use arch::Arch;

use arch::Named;
use emit::Emitter;
use ranges::{Frame, divide};
use rules::Rules;

/// What a call of an architecture gets that is not filtered: its thread dies (`SECCOMP_RET_KILL_THREAD`), the action
/// that libseccomp uses unless told otherwise, and runc with it.
pub const BAD_ARCH: SeccompAction = SeccompAction::KillThread;

/// The longest program that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `SECCOMP_FILTER_FLAG_TSYNC`.
const TSYNC: u64 = 1;

/// Offsets into the kernel's `struct seccomp_data`.
pub(crate) const OFFSET_NUMBER: u32 = 0;
pub(crate) const OFFSET_ARCH: u32 = 4;
pub(crate) const OFFSET_ARGUMENTS: u32 = 16;

/// Operations of linux/bpf_common.h, put together as the kernel's seccomp accepts them.
pub(crate) mod opcode {
    /// `BPF_LD | BPF_W | BPF_ABS`: the accumulator becomes the word at offset k.
    pub(crate) const LOAD: u16 = 0x20;
    /// `BPF_ALU | BPF_AND | BPF_K`.
    pub(crate) const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JA`: skips k instructions.
    pub(crate) const JA: u16 = 0x05;
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    pub(crate) const JEQ: u16 = 0x15;
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    pub(crate) const JGT: u16 = 0x25;
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    pub(crate) const JGE: u16 = 0x35;
    /// `BPF_JMP | BPF_JSET | BPF_K`: jumps when a bit is common.
    pub(crate) const JSET: u16 = 0x45;
    /// `BPF_RET | BPF_K`.
    pub(crate) const RET: u16 = 0x06;
}

/// One instruction, laid out as `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jt: u8,
    /// How many to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// The bytes of `struct sock_filter` on the machine that this runs on.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let [code_a, code_b] = self.code.to_ne_bytes();
        let [a, b, c, d] = self.k.to_ne_bytes();
        [code_a, code_b, self.jt, self.jf, a, b, c, d]
    }
}

/// A program and how to load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// At most [`MAX_INSTRUCTIONS`] instructions.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_` bits of the profile, without `TSYNC`: the filter is loaded by a process with one thread,
    /// and the kernel refuses `TSYNC` together with a listener.
    pub flags: u64,
    /// Whether a rule notifies, so that the loader must add `SECCOMP_FILTER_FLAG_NEW_LISTENER` and pass the fd on.
    pub notifies: bool,
}

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A name that the specification does not have.
    #[error("unknown seccomp architecture {0:?}")]
    UnknownArchitecture(String),
    /// `write` may not wait for a listener: the runtime needs it to pass the listener's fd on.
    #[error("SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite,
    /// As the default action it would hit `write` too.
    #[error("SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyDefault,
    /// An argument that does not exist.
    #[error("seccomp argument index {0} is above 5")]
    ArgumentIndex(u8),
    /// More than the kernel takes.
    #[error("seccomp filter has {0} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

/// Compiles a profile for the architecture `native` and those that the profile lists.
///
/// Listed architectures of the specification without a table here are left out: their calls get [`BAD_ARCH`].
/// Spec: runtime-spec 1.3, config-linux.md, `linux.seccomp`.
///
/// # Errors
/// [`CompileError`]: an unknown architecture, `SCMP_ACT_NOTIFY` where it would lock up, an argument index above 5, or
/// a program that is too long.
pub fn compile(profile: &Seccomp, native: Arch) -> Result<Filter, CompileError> {
    check(profile)?;
    let architectures = architectures(&profile.architectures, native)?;
    let rules = Rules::new(&profile.rules, profile.default_action);
    let frame = Frame { default: profile.default_action, x32: architectures.contains(&Arch::X32) };
    let mut emitter = Emitter::new(profile.default_action);
    let mut entries = Vec::with_capacity(architectures.len());
    // From the end to the beginning: the native one comes to lie right behind the dispatch.
    for &arch in architectures.iter().rev().filter(|arch| **arch != Arch::X32) {
        let ranges = divide(arch, &rules, frame);
        entries.insert(0, (arch.audit(), emitter.numbers(&ranges)));
    }
    emitter.architectures(&entries, BAD_ARCH);
    let program = emitter.finish();
    if program.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong(program.len()));
    }
    let notifies = profile.rules.iter().any(|rule| rule.action == SeccompAction::Notify);
    Ok(Filter { program, flags: profile.flags & !TSYNC, notifies })
}

/// What the kernel is told: the action in the upper half, data in the lower (`SECCOMP_RET_` of linux/seccomp.h).
#[must_use]
pub fn return_value(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::KillThread => 0,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 | u32::from(errno),
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace(data) => 0x7ff0_0000 | u32::from(data),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

/// The number of a system call on an architecture, as `seccomp_data.nr` holds it. `None` where it does not exist.
#[must_use]
pub fn syscall_number(arch: Arch, name: &str) -> Option<u32> {
    tables::number(arch, tables::find(name)?)
}

/// The names of all system calls of an architecture with their numbers, sorted by name.
pub fn syscalls(arch: Arch) -> impl Iterator<Item = (&'static str, u32)> {
    tables::all().filter_map(move |(name, place)| tables::number(arch, place).map(|number| (name, number)))
}

fn check(profile: &Seccomp) -> Result<(), CompileError> {
    if profile.default_action == SeccompAction::Notify {
        return Err(CompileError::NotifyDefault);
    }
    for rule in &profile.rules {
        if rule.action == SeccompAction::Notify && rule.names.iter().any(|name| name == "write") {
            return Err(CompileError::NotifyWrite);
        }
        if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
            return Err(CompileError::ArgumentIndex(arg.index));
        }
    }
    Ok(())
}

/// The native architecture first, then the listed ones in their order, each once.
fn architectures(names: &[String], native: Arch) -> Result<Vec<Arch>, CompileError> {
    let mut architectures = vec![native];
    if native == Arch::X32 {
        architectures.insert(0, Arch::X86_64);
    }
    for name in names {
        match arch::find(name) {
            Named::Known(arch) if !architectures.contains(&arch) => architectures.push(arch),
            Named::Known(_) | Named::WithoutTable => {}
            Named::Unknown => return Err(CompileError::UnknownArchitecture(name.clone())),
        }
    }
    // One section serves both, so listing x32 alone brings x86-64 with it.
    if architectures.contains(&Arch::X32) && !architectures.contains(&Arch::X86_64) {
        architectures.push(Arch::X86_64);
    }
    Ok(architectures)
}
