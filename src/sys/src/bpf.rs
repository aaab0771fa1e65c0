//! `bpf(2)` for device programs of cgroup2.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{Context, Result};
use crate::raw;

const BPF_PROG_LOAD: usize = 5;
const BPF_PROG_ATTACH: usize = 8;
const BPF_PROG_DETACH: usize = 9;
const BPF_PROG_GET_FD_BY_ID: usize = 13;
const BPF_OBJ_GET_INFO_BY_FD: usize = 15;
const BPF_PROG_QUERY: usize = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;
/// `BPF_CGROUP_MAX_PROGS` of the kernel: more cannot be attached to one group.
const MOST_PROGRAMS: usize = 64;

/// The name that [`load_device_program`] gives to its programs.
pub const DEVICE_PROGRAM_NAME: &str = "skep_device";

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
    attr.name[..DEVICE_PROGRAM_NAME.len()].copy_from_slice(DEVICE_PROGRAM_NAME.as_bytes());
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
    unsafe { raw::owned(number) }.call(|| "bpf(BPF_PROG_LOAD)".to_owned())
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

/// Takes a device program off a cgroup2 folder.
///
/// # Errors
/// What the kernel says; ENOENT when it is not attached there.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    bpf(BPF_PROG_DETACH, std::ptr::from_ref(&attr) as usize, std::mem::size_of::<AttachAttr>())
        .map(drop)
        .call(|| "bpf(BPF_PROG_DETACH, BPF_CGROUP_DEVICE)".to_owned())
}

/// The device programs that are attached to one cgroup2 folder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedPrograms {
    /// Their ids, in the order of attaching.
    pub ids: Vec<u32>,
    /// Whether others may be attached beside them and below (BPF_F_ALLOW_MULTI). Without programs it says nothing.
    pub multi: bool,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    program_count: u32,
    padding: u32,
}

/// Asks which device programs are attached to a cgroup2 folder, those of its parents left out.
///
/// # Errors
/// What the kernel says: EPERM without CAP_NET_ADMIN, EINVAL before Linux 4.15.
pub fn query_device_programs(cgroup: BorrowedFd<'_>) -> Result<AttachedPrograms> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: number(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        program_ids: ids.as_mut_ptr() as u64,
        program_count: MOST_PROGRAMS as u32,
        ..QueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, std::ptr::from_mut(&mut attr) as usize, std::mem::size_of::<QueryAttr>())
        .call(|| "bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)".to_owned())?;
    let count = (attr.program_count as usize).min(MOST_PROGRAMS);
    Ok(AttachedPrograms { ids: ids[..count].to_vec(), multi: attr.attach_flags & BPF_F_ALLOW_MULTI != 0 })
}

#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    program_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Opens a loaded program by its id.
///
/// # Errors
/// What the kernel says: ENOENT when there is none, EPERM without CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    let attr = ByIdAttr { program_id: id, ..ByIdAttr::default() };
    bpf(BPF_PROG_GET_FD_BY_ID, std::ptr::from_ref(&attr) as usize, std::mem::size_of::<ByIdAttr>())
        // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor, which nobody else owns.
        .and_then(|number| unsafe { raw::owned(number) })
        .call(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})"))
}

/// What the kernel knows of a loaded program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id. Ids are handed out in a circle of 2^31, and not twice at a time.
    pub id: u32,
    /// The name that its loader gave; empty before Linux 4.15.
    pub name: String,
}

/// The front part of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Asks for a program's id and name.
///
/// # Errors
/// What the kernel says.
pub fn program_info(program: BorrowedFd<'_>) -> Result<ProgramInfo> {
    let mut info = Info::default();
    let attr = InfoAttr {
        bpf_fd: number(program),
        info_len: std::mem::size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, std::ptr::from_ref(&attr) as usize, std::mem::size_of::<InfoAttr>())
        .call(|| "bpf(BPF_OBJ_GET_INFO_BY_FD)".to_owned())?;
    let end = info.name.iter().position(|byte| *byte == 0).unwrap_or(info.name.len());
    Ok(ProgramInfo { id: info.id, name: String::from_utf8_lossy(&info.name[..end]).into_owned() })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn bpf(command: usize, attr: usize, size: usize) -> std::result::Result<usize, rustix::io::Errno> {
    // SAFETY: the callers above pass a pointer to a live `repr(C)` struct and its size; pointers inside it point to
    // buffers that live in the caller's frame or argument and are as long as the struct says.
    unsafe { raw::syscall(libc::SYS_bpf, [command, attr, size, 0, 0, 0]) }
}
