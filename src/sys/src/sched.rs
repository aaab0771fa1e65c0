//! Scheduling, I/O priority, CPU affinity, memory policy, personality.

use crate::error::{Context, Result};
use crate::raw;

/// Arguments of `sched_setattr(2)`, laid out as `struct sched_attr` in its first version.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct SchedAttr {
    size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

const _: () = assert!(std::mem::size_of::<SchedAttr>() == 48);

/// `sched_setattr(2)`; pid 0 is the caller.
///
/// # Errors
/// What the kernel says.
pub fn set_scheduler(pid: i32, mut attr: SchedAttr) -> Result<()> {
    attr.size = 48;
    // SAFETY: `attr` outlives the call and says its own size.
    unsafe { raw::syscall(libc::SYS_sched_setattr, [pid as usize, std::ptr::from_ref(&attr) as usize, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| {
            format!("sched_setattr({pid}, policy {}, priority {}, nice {})", attr.policy, attr.priority, attr.nice)
        })
}

/// `ioprio_set(2)` of one process; pid 0 is the caller.
///
/// # Errors
/// What the kernel says.
pub fn set_io_priority(pid: i32, class: u32, level: u32) -> Result<()> {
    const WHO_PROCESS: usize = 1;
    let value = class << 13 | level;
    // SAFETY: no pointer is passed.
    unsafe { raw::syscall(libc::SYS_ioprio_set, [WHO_PROCESS, pid as usize, value as usize, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("ioprio_set({pid}, class {class}, level {level})"))
}

/// `sched_setaffinity(2)`; pid 0 is the caller.
///
/// # Errors
/// What the kernel says; EINVAL when none of the CPUs is there.
pub fn set_affinity(pid: i32, cpus: &[u32]) -> Result<()> {
    let mask = bit_mask(cpus);
    // SAFETY: pointer and length in bytes describe `mask`, which outlives the call.
    unsafe {
        raw::syscall(libc::SYS_sched_setaffinity, [pid as usize, mask.len() * 8, mask.as_ptr() as usize, 0, 0, 0])
    }
    .map(drop)
    .call(|| format!("sched_setaffinity({pid}, {cpus:?})"))
}

/// Highest number of CPUs that a kernel can be built for (`NR_CPUS` with `MAXSMP`).
const CPUS_MAX: usize = 8192;

/// Allows every CPU that the task's cpuset allows, those included that it will allow later.
///
/// # Errors
/// What the kernel says.
pub fn reset_affinity(pid: i32) -> Result<()> {
    let mask = [u64::MAX; CPUS_MAX / 64];
    // SAFETY: pointer and length in bytes describe `mask`, which outlives the call.
    unsafe { raw::syscall(libc::SYS_sched_setaffinity, [pid as usize, CPUS_MAX / 8, mask.as_ptr() as usize, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("sched_setaffinity({pid}, all)"))
}

/// `set_mempolicy(2)` of the caller.
///
/// # Errors
/// What the kernel says; ENOSYS without NUMA.
pub fn set_memory_policy(mode: u32, flags: u32, nodes: &[u32]) -> Result<()> {
    let mask = bit_mask(nodes);
    let (pointer, bits) = if nodes.is_empty() { (0, 0) } else { (mask.as_ptr() as usize, mask.len() * 64 + 1) };
    // SAFETY: the kernel reads `bits - 1` bits from `mask`, which outlives the call, or nothing.
    unsafe { raw::syscall(libc::SYS_set_mempolicy, [(mode | flags) as usize, pointer, bits, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("set_mempolicy({mode}, {flags:#x}, {nodes:?})"))
}

/// `personality(2)`.
///
/// # Errors
/// What the kernel says.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: no pointer is passed; the engine sets it in the process that will exec the container's program.
    unsafe { raw::syscall(libc::SYS_personality, [persona as usize, 0, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("personality({persona:#x})"))
}

/// Words of 64 bits with the given bits set.
fn bit_mask(bits: &[u32]) -> Vec<u64> {
    let words = bits.iter().max().map_or(1, |top| *top as usize / 64 + 1);
    let mut mask = vec![0u64; words];
    for bit in bits {
        mask[*bit as usize / 64] |= 1 << (bit % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::bit_mask;

    #[test]
    fn masks_span_words() {
        assert_eq!(bit_mask(&[0, 3, 64]), [0b1001, 1]);
        assert_eq!(bit_mask(&[]), [0]);
    }
}
