//! `bpf(2)` for device programs of cgroup2.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Context, Result};
use crate::raw;

const BPF_PROG_LOAD: usize = 5;
const BPF_PROG_ATTACH: usize = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE from its bytes (8 per instruction).
///
/// # Errors
/// What the kernel says, with the verifier's words when it refuses.
pub fn load_device_program(bytes: &[u8]) -> Result<OwnedFd> {
    let mut log = vec![0u8; 4096];
    let count = u32::try_from(bytes.len() / 8).unwrap_or(u32::MAX);
    let mut attr = LoadAttr {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: bytes.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    attr.name[..11].copy_from_slice(b"skep_device");
    let first = bpf(BPF_PROG_LOAD, std::ptr::from_ref(&attr) as usize, std::mem::size_of::<LoadAttr>());
    let number = match first {
        Ok(number) => number,
        Err(_) => {
            attr.log_level = 1;
            attr.log_size = 4096;
            attr.log_buffer = log.as_mut_ptr() as u64;
            bpf(BPF_PROG_LOAD, std::ptr::from_ref(&attr) as usize, std::mem::size_of::<LoadAttr>()).call(|| {
                let words = String::from_utf8_lossy(&log);
                format!("bpf(BPF_PROG_LOAD, {count} instructions) [{}]", words.trim_end_matches('\0').trim())
            })?
        }
    };
    // SAFETY: BPF_PROG_LOAD returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(number).unwrap_or(-1)) })
}

/// Attaches a device program to a cgroup2 folder beside others, or in the place of `replaced`.
///
/// # Errors
/// What the kernel says; ENOENT when `replaced` is not attached there.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: replaced.map_or(0, number),
    };
    bpf(BPF_PROG_ATTACH, std::ptr::from_ref(&attr) as usize, std::mem::size_of::<AttachAttr>())
        .map(drop)
        .call(|| "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)".to_owned())
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn bpf(command: usize, attr: usize, size: usize) -> std::result::Result<usize, rustix::io::Errno> {
    // SAFETY: the two callers above pass a pointer to a live `repr(C)` struct and its size; pointers inside it point to
    // buffers that live in the caller's frame or argument.
    unsafe { raw::syscall(libc::SYS_bpf, [command, attr, size, 0, 0, 0]) }
}
