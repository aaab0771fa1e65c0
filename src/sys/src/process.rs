//! Processes: clone3, pidfd, wait, exec, exit, and what a process sets on itself.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::{Context, Error, Result};
use crate::raw;

/// Flag of clone3: the child's parent is the caller's parent.
pub const CLONE_PARENT: u64 = 0x0000_8000;
/// Number of a capability (include/uapi/linux/capability.h).
pub const CAP_SETGID: u32 = 6;
/// Number of a capability.
pub const CAP_SETUID: u32 = 7;
/// Number of a capability.
pub const CAP_SYS_PTRACE: u32 = 19;
/// Number of a capability.
pub const CAP_SYS_ADMIN: u32 = 21;
/// Number of a capability.
pub const CAP_MKNOD: u32 = 27;
const CLONE_PIDFD: u64 = 0x0000_1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone3`] returned.
#[derive(Debug)]
pub enum Cloned {
    /// We are the new process.
    Child,
    /// We are the old one.
    Parent {
        /// The child, as the caller's pid namespace numbers it.
        pid: i32,
        /// The same without the risk of reuse.
        pidfd: OwnedFd,
    },
}

/// `clone3(2)` as a fork with namespaces: memory is copied, nothing is shared, the exit signal is SIGCHLD.
///
/// Signals that have a handler are back at their default in the child; ignored ones stay ignored (CLONE_CLEAR_SIGHAND).
/// `flags` takes CLONE_NEW* and [`CLONE_PARENT`]. With `cgroup`, a folder of cgroup2, the child begins its life there.
///
/// # Errors
/// What the kernel says; EBUSY when this process has more than one thread, since the child of a threaded process could
/// deadlock on a lock that nobody holds any more.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let call = || format!("clone3({flags:#x}{})", if cgroup.is_some() { ", CLONE_INTO_CGROUP" } else { "" });
    if thread_count()? != 1 {
        return Err(Error::new(format!("{} from a threaded process", call()), Errno::BUSY));
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; all zero is a valid value of it.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // The exit signal of a CLONE_PARENT child is its sibling's; the kernel wants 0 here.
    args.exit_signal = if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` outlive the call and the size is that of the struct. Without CLONE_VM the child has its
    // own copy of all memory, and the check above leaves no other thread whose locks could stay taken.
    let pid = unsafe {
        raw::syscall(
            libc::SYS_clone3,
            [std::ptr::from_mut(&mut args) as usize, std::mem::size_of::<libc::clone_args>(), 0, 0, 0, 0],
        )
    }
    .call(call)?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel stored a new descriptor in `pidfd`, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: i32::try_from(pid).expect("a pid is below 2^22"), pidfd })
}

/// How many threads this process has: the links of `/proc/self/task` less two.
fn thread_count() -> Result<u64> {
    let stat = rustix::fs::stat("/proc/self/task").call(|| "stat(\"/proc/self/task\")".to_owned())?;
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // st_nlink is u32 on some architectures.
    Ok((stat.st_nlink as u64).saturating_sub(2))
}

/// Ends this process at once: no destructor, no buffer, no handler runs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// `pidfd_open(2)`.
///
/// # Errors
/// What the kernel says; ESRCH where there is no such process, also where its number is still that of a session, a process
/// group or a thread: older kernels (6.12 for one) say EINVAL then, which without flags has no other cause.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    Pid::from_raw(pid)
        .ok_or(Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
        .map_err(|errno| if errno == Errno::INVAL { Errno::SRCH } else { errno })
        .call(|| format!("pidfd_open({pid})"))
}

/// Whether the process of a pidfd has ended. Asked after something was opened by its number, it says whose that is.
///
/// # Errors
/// What the kernel says.
pub fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool> {
    let now = poll_readable(&[pidfd], Some(0))?[0];
    Ok(now.readable || now.hung_up)
}

/// `pidfd_send_signal(2)`; signal 0 only looks.
///
/// # Errors
/// What the kernel says; ESRCH once the process has been reaped.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: no pointer is passed (the siginfo is null).
    unsafe { raw::syscall(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("pidfd_send_signal({signal})"))
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Reads the status of `wait(2)`.
    fn of(status: libc::c_int) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }

    /// The shell's number: the code, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Waits for one child.
///
/// # Errors
/// What the kernel says; ECHILD where it is not ours.
pub fn wait(pid: i32) -> Result<Exit> {
    wait_with(pid, 0).map(|exit| exit.expect("without WNOHANG the kernel answers with a child"))
}

/// Looks whether a child has ended, and reaps it then.
///
/// # Errors
/// What the kernel says.
pub fn try_wait(pid: i32) -> Result<Option<Exit>> {
    wait_with(pid, libc::WNOHANG)
}

fn wait_with(pid: i32, flags: i32) -> Result<Option<Exit>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let got = unsafe { libc::waitpid(pid, &raw mut status, flags | libc::__WALL) };
        if got == 0 {
            return Ok(None);
        }
        if got > 0 {
            return Ok(Some(Exit::of(status)));
        }
        match raw::last_errno() {
            Errno::INTR => {}
            errno => return Err(Error::new(format!("waitpid({pid})"), errno)),
        }
    }
}

/// How the process of a pidfd ended, though it may be no child and reaped already (PIDFD_GET_INFO with PIDFD_INFO_EXIT,
/// kernel 6.15). `None` while it runs, and where the kernel does not know.
///
/// # Errors
/// What the kernel says, but for ENOTTY and EINVAL of kernels that do not have the request and ESRCH of those that do not
/// keep the status.
pub fn exit_of(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request writes at most as many bytes as its number says, the size of `info`, which outlives the call.
    let got = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    if got < 0 {
        return match raw::last_errno() {
            Errno::NOTTY | Errno::INVAL | Errno::SRCH => Ok(None),
            errno => Err(Error::new("ioctl(PIDFD_GET_INFO)", errno)),
        };
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then(|| Exit::of(info.exit_code)))
}

/// `struct pidfd_info` of include/uapi/linux/pidfd.h, its first 64 bytes (PIDFD_INFO_SIZE_VER0).
#[repr(C)]
#[derive(Debug, Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(0xFF, 11, struct pidfd_info)` with that size.
const PIDFD_GET_INFO: u32 = 3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11;
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// Reaps any one child that has ended: its pid and how it ended. `None` when none has (or there is none).
///
/// # Errors
/// What the kernel says.
pub fn reap_any() -> Result<Option<(i32, Exit)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let got = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        match got {
            0 => return Ok(None),
            pid if pid > 0 => return Ok(Some((pid, Exit::of(status)))),
            _ => match raw::last_errno() {
                Errno::INTR => {}
                Errno::CHILD => return Ok(None),
                errno => return Err(Error::new("waitpid(-1)", errno)),
            },
        }
    }
}

/// An argument or environment vector in the form that exec wants.
#[derive(Debug)]
pub struct CStrings {
    strings: Vec<CString>,
}

impl CStrings {
    /// Copies the strings.
    ///
    /// # Errors
    /// EINVAL where one holds a NUL byte.
    pub fn new<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Result<CStrings> {
        strings
            .into_iter()
            .map(|text| raw::c_string(text.as_ref()).call(|| format!("string with a NUL byte: {:?}", text.as_ref())))
            .collect::<Result<Vec<CString>>>()
            .map(|strings| CStrings { strings })
    }

    /// Takes the bytes, which need not be UTF-8.
    ///
    /// # Errors
    /// EINVAL where one holds a NUL byte.
    pub fn from_bytes(strings: impl IntoIterator<Item = Vec<u8>>) -> Result<CStrings> {
        strings
            .into_iter()
            .map(|bytes| CString::new(bytes).map_err(|_| Errno::INVAL).call(|| "string with a NUL byte".to_owned()))
            .collect::<Result<Vec<CString>>>()
            .map(|strings| CStrings { strings })
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    }
}

/// A program with its vectors in the form that the kernel takes, so that executing it asks for nothing, not even memory.
#[derive(Debug)]
pub struct Prepared {
    path: CString,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    // What the pointers point into; a CString's bytes stay where they are when the vector moves.
    _strings: [CStrings; 2],
}

impl Prepared {
    /// Copies everything.
    ///
    /// # Errors
    /// EINVAL where a string holds a NUL byte.
    pub fn new<S: AsRef<str>>(
        path: &str,
        args: impl IntoIterator<Item = S>,
        env: impl IntoIterator<Item = S>,
    ) -> Result<Prepared> {
        let (args, env) = (CStrings::new(args)?, CStrings::new(env)?);
        let path = raw::c_string(path).call(|| format!("path with a NUL byte: {path:?}"))?;
        Ok(Prepared { path, argv: args.pointers(), envp: env.pointers(), _strings: [args, env] })
    }

    /// `execve(2)`. Returns only when it fails.
    #[must_use]
    pub fn execute(&self) -> Errno {
        // SAFETY: all three point to NUL terminated strings, the vectors end in a null pointer, and `self` owns them all.
        unsafe { libc::execve(self.path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        raw::last_errno()
    }
}

/// `execveat(2)` of an open file. Returns only when it fails.
#[must_use]
pub fn execve_fd(fd: BorrowedFd<'_>, args: &CStrings, env: &CStrings) -> Error {
    let (argv, envp) = (args.pointers(), env.pointers());
    // SAFETY: the empty path and both vectors are NUL terminated and outlive the call.
    let failure = unsafe {
        raw::syscall(
            libc::SYS_execveat,
            [
                fd.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                argv.as_ptr() as usize,
                envp.as_ptr() as usize,
                libc::AT_EMPTY_PATH as usize,
                0,
            ],
        )
    };
    Error::new("execveat(fd)", failure.err().unwrap_or(Errno::IO))
}

/// `close_range(2)` with CLOSE_RANGE_CLOEXEC: every descriptor from `first` on closes at the next exec.
///
/// # Errors
/// What the kernel says.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    // SAFETY: no pointer is passed; marking descriptors does not close them, so nobody's ownership is broken.
    unsafe { raw::syscall(libc::SYS_close_range, [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("close_range({first}, CLOSE_RANGE_CLOEXEC)"))
}

/// Closes every descriptor but these, with one `close_range(2)` per gap.
///
/// Meant for a process that is about to exec: descriptors that something in this process owns are closed behind its back,
/// so it must leave by exec or [`exit_now`] without dropping their owners.
///
/// # Errors
/// What the kernel says.
pub fn close_all_but(mut numbers: Vec<u32>) -> Result<()> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut first = 0;
    for number in numbers {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no pointer is passed. The caller of `close_all_but` vouches that no owner of a closed descriptor uses it.
    unsafe { raw::syscall(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("close_range({first}, {last})"))
}

/// Clears close-on-exec of one descriptor number.
///
/// # Errors
/// EBADF where it is not open.
pub fn keep_on_exec(number: RawFd) -> Result<()> {
    // SAFETY: F_SETFD on a number changes a flag; on a closed one the kernel answers EBADF.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if result < 0 { Err(raw::last_errno()).call(|| format!("fcntl({number}, F_SETFD)")) } else { Ok(()) }
}

/// Whether a descriptor number came from whoever executed this program.
///
/// What survives an exec has no close-on-exec flag, and everything that this process opens has one, so a file of our own
/// that happens to have the number does not count.
#[must_use]
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: F_GETFD only looks; on a closed number the kernel answers EBADF.
    unsafe { libc::fcntl(number, libc::F_GETFD) == 0 }
}

/// Whether a descriptor number is open.
#[must_use]
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD only looks; on a closed number the kernel answers EBADF.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Makes `fd` the descriptor `number`, which stays open across exec.
///
/// # Errors
/// What the kernel says.
pub fn dup_onto(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    if fd.as_raw_fd() == number {
        return keep_on_exec(number);
    }
    // SAFETY: dup2 replaces `number`; callers use it for 0, 1 and 2, which std never owns as an OwnedFd.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if result < 0 { Err(raw::last_errno()).call(|| format!("dup2(fd {}, {number})", fd.as_raw_fd())) } else { Ok(()) }
}

/// Takes ownership of an inherited descriptor number.
///
/// # Errors
/// EBADF where it is not open.
pub fn adopt_fd(number: RawFd) -> Result<OwnedFd> {
    if !is_open(number) {
        return Err(Error::new(format!("descriptor {number}"), Errno::BADF));
    }
    // SAFETY: it is open, and the caller names a number that was inherited, which nothing in this process owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sees to it that 0, 1 and 2 are open, so that no file that we open lands there.
///
/// # Errors
/// What the kernel says of opening `/dev/null`.
pub fn ensure_standard_fds() -> Result<()> {
    loop {
        let null = crate::fs::open("/dev/null", crate::fs::OFlags::RDWR)?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        keep_on_exec(null.as_raw_fd())?;
        // Not dropped: it is now the missing standard descriptor.
        let _standard: RawFd = std::os::fd::IntoRawFd::into_raw_fd(null);
    }
}

/// A copy of a descriptor, closed at exec.
///
/// # Errors
/// What the kernel says.
pub fn dup(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).call(|| format!("fcntl(fd {}, F_DUPFD_CLOEXEC)", fd.as_raw_fd()))
}

/// `prctl(PR_SET_DUMPABLE)`: whether others may trace us or look into our `/proc` files.
///
/// # Errors
/// What the kernel says.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, usize::from(dumpable), 0).call(|| "prctl(PR_SET_DUMPABLE)".to_owned())
}

/// Overwrites the environment that this program was executed with by zeros, in memory and so in `/proc/PID/environ`, and
/// leaves none. Meant for a process of one thread that is about to exec.
pub fn clear_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: `environ` is null or a vector of pointers that ends in a null pointer, each to a string that ends in NUL and is
    // this process's own memory; the caller has one thread, so nobody reads them meanwhile.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            (*entry).write_bytes(0, libc::strlen(*entry));
            *entry = std::ptr::null_mut();
            entry = entry.add(1);
        }
    }
}

/// `prctl(PR_SET_CHILD_SUBREAPER)`.
///
/// # Errors
/// What the kernel says.
pub fn set_child_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).call(|| "prctl(PR_SET_CHILD_SUBREAPER)".to_owned())
}

/// `prctl(PR_SET_NO_NEW_PRIVS)`.
///
/// # Errors
/// What the kernel says.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).call(|| "prctl(PR_SET_NO_NEW_PRIVS)".to_owned())
}

/// `prctl(PR_SET_KEEPCAPS)`: whether permitted capabilities survive leaving user id 0.
///
/// # Errors
/// What the kernel says.
pub fn set_keep_caps(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, usize::from(keep), 0).call(|| "prctl(PR_SET_KEEPCAPS)".to_owned())
}

/// `prctl(PR_CAPBSET_DROP)`.
///
/// # Errors
/// What the kernel says; EINVAL for a capability that it does not know.
pub fn drop_bounding(capability: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability as usize, 0).call(|| format!("prctl(PR_CAPBSET_DROP, {capability})"))
}

/// Whether a capability is in the bounding set; `None` for one that the kernel does not know.
#[must_use]
pub fn in_bounding(capability: u32) -> Option<bool> {
    prctl_value(libc::PR_CAPBSET_READ, capability as usize, 0).ok().map(|value| value == 1)
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)`.
///
/// # Errors
/// What the kernel says; EPERM unless it is permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, capability as usize)
        .call(|| format!("prctl(PR_CAP_AMBIENT_RAISE, {capability})"))
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)`.
///
/// # Errors
/// What the kernel says.
pub fn clear_ambient() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)
        .call(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)".to_owned())
}

fn prctl(option: libc::c_int, second: usize, third: usize) -> std::result::Result<(), Errno> {
    prctl_value(option, second, third).map(drop)
}

fn prctl_value(option: libc::c_int, second: usize, third: usize) -> std::result::Result<usize, Errno> {
    // SAFETY: the options used above take numbers, no pointer.
    unsafe { raw::syscall(libc::SYS_prctl, [option as usize, second, third, 0, 0, 0]) }
}

/// The three sets of `capset(2)` as masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapMasks {
    /// What counts now.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What passes through exec of files with inheritable capabilities.
    pub inheritable: u64,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `capset(2)` of the calling thread.
///
/// # Errors
/// What the kernel says; EPERM for what is not permitted.
pub fn capset(masks: CapMasks) -> Result<()> {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let halves = |shift: u32| [masks.effective, masks.permitted, masks.inheritable].map(|m| (m >> shift) as u32);
    let data: [[u32; 3]; 2] = [halves(0), halves(32)];
    // SAFETY: the header is {u32, i32} and version 3 reads two structs of three u32 each; both outlive the call.
    unsafe { raw::syscall(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| {
            format!(
                "capset(effective {:#x}, permitted {:#x}, inheritable {:#x})",
                masks.effective, masks.permitted, masks.inheritable
            )
        })
}

impl CapMasks {
    /// Whether a capability is in effect, by its number.
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.effective >> capability & 1 == 1
    }
}

/// `capget(2)` of the calling thread.
///
/// # Errors
/// What the kernel says.
pub fn capget() -> Result<CapMasks> {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: as in `capset`; the kernel writes two structs of three u32 each into `data`.
    unsafe { raw::syscall(libc::SYS_capget, [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0]) }
        .call(|| "capget".to_owned())?;
    let join = |i: usize| u64::from(data[0][i]) | u64::from(data[1][i]) << 32;
    Ok(CapMasks { effective: join(0), permitted: join(1), inheritable: join(2) })
}

/// `setgroups(2)` of the calling thread (the raw call: the C library's would talk to other threads).
///
/// # Errors
/// What the kernel says; EPERM in a user namespace where it is denied.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length describe `groups`, which outlives the call; gid_t is u32.
    unsafe { raw::syscall(SYS_SETGROUPS, [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("setgroups({groups:?})"))
}

/// `setresgid(2)` of the calling thread, all three ids the same.
///
/// # Errors
/// What the kernel says; EINVAL for an id without a mapping.
pub fn set_gid(gid: u32) -> Result<()> {
    refuse_no_change(gid, "setresgid")?;
    // SAFETY: no pointer is passed.
    unsafe { raw::syscall(SYS_SETRESGID, [gid as usize, gid as usize, gid as usize, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("setresgid({gid})"))
}

/// To the kernel 2^32-1 means "leave it as it is", which here would mean "stay root".
fn refuse_no_change(id: u32, call: &str) -> Result<()> {
    if id == u32::MAX { Err(Error::new(format!("{call}({id})"), Errno::INVAL)) } else { Ok(()) }
}

/// `setresuid(2)` of the calling thread, all three ids the same.
///
/// # Errors
/// What the kernel says; EINVAL for an id without a mapping.
pub fn set_uid(uid: u32) -> Result<()> {
    refuse_no_change(uid, "setresuid")?;
    // SAFETY: no pointer is passed.
    unsafe { raw::syscall(SYS_SETRESUID, [uid as usize, uid as usize, uid as usize, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("setresuid({uid})"))
}

// On 32-bit x86 and arm the plain numbers are the old calls with 16-bit ids.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SYS_SETGROUPS: libc::c_long = libc::SYS_setgroups32;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SYS_SETRESGID: libc::c_long = libc::SYS_setresgid32;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SYS_SETRESUID: libc::c_long = libc::SYS_setresuid32;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SYS_SETGROUPS: libc::c_long = libc::SYS_setgroups;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SYS_SETRESGID: libc::c_long = libc::SYS_setresgid;
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SYS_SETRESUID: libc::c_long = libc::SYS_setresuid;

/// `getrlimit(2)` of the caller: soft and hard.
///
/// # Errors
/// What the kernel says.
pub fn own_limit(resource: u32) -> Result<(u64, u64)> {
    let mut limits = [0u64; 2];
    // SAFETY: the kernel writes two u64 into `limits`, which outlives the call; no new value is given.
    unsafe { raw::syscall(libc::SYS_prlimit64, [0, resource as usize, 0, limits.as_mut_ptr() as usize, 0, 0]) }
        .map(|_| (limits[0], limits[1]))
        .call(|| format!("prlimit(0, {resource})"))
}

/// The number of open files ([`prlimit`]).
#[allow(clippy::unnecessary_cast)] // i32 with musl, u32 with glibc.
pub const RLIMIT_NOFILE: u32 = libc::RLIMIT_NOFILE as u32;

/// `prlimit(2)` of a process (0 is the caller): sets soft and hard.
///
/// # Errors
/// What the kernel says; EPERM for raising a hard limit without CAP_SYS_RESOURCE.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limits = [soft, hard];
    // SAFETY: the kernel reads two u64 from `limits`, which outlives the call; the old value is not asked for.
    unsafe { raw::syscall(libc::SYS_prlimit64, [pid as usize, resource as usize, limits.as_ptr() as usize, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("prlimit({pid}, {resource}, {soft}, {hard})"))
}

/// `setfsuid(2)` and `setfsgid(2)`: what the calling thread makes in file systems belongs to these ids. Its capabilities
/// over files stay in effect, which the kernel would take away.
///
/// # Errors
/// EPERM where the thread may not take these ids: the calls themselves never tell.
pub fn set_file_system_ids(uid: u32, gid: u32) -> Result<()> {
    let masks = capget()?;
    for (number, name, id) in [(libc::SYS_setfsgid, "setfsgid", gid), (libc::SYS_setfsuid, "setfsuid", uid)] {
        // SAFETY: takes one number. -1 is no id, so the second call changes nothing and returns the one in force.
        let now = unsafe {
            raw::syscall(number, [id as usize, 0, 0, 0, 0, 0]).call(|| format!("{name}({id})"))?;
            raw::syscall(number, [u32::MAX as usize, 0, 0, 0, 0, 0]).call(|| format!("{name}(-1)"))?
        };
        if now != id as usize {
            return Err(Error::new(format!("{name}({id})"), Errno::PERM));
        }
    }
    capset(masks)
}

/// `umask(2)`: sets and returns the old one.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// `fchdir(2)`.
///
/// # Errors
/// What the kernel says.
pub fn chdir_fd(dir: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(dir).call(|| format!("fchdir(fd {})", dir.as_raw_fd()))
}

/// `chdir(2)`.
///
/// # Errors
/// What the kernel says.
pub fn chdir(path: &str) -> Result<()> {
    rustix::process::chdir(path).call(|| format!("chdir({path:?})"))
}

/// `chroot(2)` to the current folder.
///
/// # Errors
/// What the kernel says.
pub fn chroot_here() -> Result<()> {
    rustix::process::chroot(".").call(|| "chroot(\".\")".to_owned())
}

/// `getcwd(2)`. A folder outside the root comes back as `(unreachable)/...`.
///
/// # Errors
/// What the kernel says; ENOENT for a folder that was removed.
pub fn current_dir() -> Result<String> {
    let mut buffer = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the given number of bytes into `buffer`.
    // The raw call, since C libraries turn an unreachable folder into ENOENT.
    let length = unsafe { raw::syscall(libc::SYS_getcwd, [buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0, 0]) }
        .call(|| "getcwd".to_owned())?;
    buffer.truncate(length.saturating_sub(1));
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// `setsid(2)`.
///
/// # Errors
/// EPERM for a process group leader.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).call(|| "setsid".to_owned())
}

/// This process's id in its own pid namespace.
#[must_use]
pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Effective user id.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Effective group id.
#[must_use]
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// What a descriptor is ready for, of what was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// Data, an end of file, or (for a pidfd) the end of the process.
    pub readable: bool,
    /// Room to write.
    pub writable: bool,
    /// The other side is gone, or the descriptor failed.
    pub hung_up: bool,
}

/// Makes calls on an open file return instead of waiting, for all who share it (O_NONBLOCK).
///
/// # Errors
/// What the kernel says.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd).call(|| "fcntl(F_GETFL)".to_owned())?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).call(|| "fcntl(F_SETFL)".to_owned())
}

/// `ppoll(2)` for reading on several descriptors. `timeout_ms` of `None` waits for ever.
///
/// Returns one entry per descriptor, in order; all are default after a time-out. A signal is not an error: the wait goes
/// on (the time-out then starts again, which callers that need a deadline take into account).
///
/// # Errors
/// What the kernel says.
pub fn poll_readable(fds: &[BorrowedFd<'_>], timeout_ms: Option<u64>) -> Result<Vec<Ready>> {
    let wanted: Vec<(BorrowedFd<'_>, Wanted)> = fds.iter().map(|fd| (*fd, Wanted::Reading)).collect();
    poll(&wanted, timeout_ms)
}

/// What is waited for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Something to read.
    Reading,
    /// Something to read, or room to write.
    Both,
    /// Nothing but its end.
    End,
}

/// What is left until a moment, as a timeout for [`poll_readable`]: rounded up, or the last millisecond would be spent asking
/// again and again. 0 when it has come.
#[must_use]
pub fn left_ms(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// `ppoll(2)`; the rest is as with [`poll_readable`].
///
/// # Errors
/// What the kernel says.
pub fn poll(fds: &[(BorrowedFd<'_>, Wanted)], timeout_ms: Option<u64>) -> Result<Vec<Ready>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let flags = |wanted| match wanted {
        Wanted::Reading => PollFlags::IN,
        Wanted::Both => PollFlags::IN | PollFlags::OUT,
        Wanted::End => PollFlags::empty(),
    };
    let mut entries: Vec<PollFd<'_>> =
        fds.iter().map(|(fd, wanted)| PollFd::from_borrowed_fd(*fd, flags(*wanted))).collect();
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    });
    loop {
        match poll(&mut entries, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| "poll".to_owned()),
            Ok(_) => break,
        }
    }
    Ok(entries
        .iter()
        .map(|entry| {
            let got = entry.revents();
            Ready {
                readable: got.contains(PollFlags::IN),
                writable: got.contains(PollFlags::OUT),
                hung_up: got.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
            }
        })
        .collect())
}
