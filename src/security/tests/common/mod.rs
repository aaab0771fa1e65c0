//! Profiles and calls that several tests share.
#![allow(dead_code, reason = "each test uses a part")]

use runtime_spec::model::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};

/// Calls that the container-like profile allows without conditions.
const ALLOWED: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind
    breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32 chroot clock_adjtime clock_adjtime64
    clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
    close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
    fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fork fremovexattr
    fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area get_tls getcpu getcwd getdents
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername
    getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr
    lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall
    mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat nice oldfstat oldlstat oldolduname oldstat olduname open openat
    openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
    pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readdir readlink readlinkat readv recv recvfrom
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
    restart_syscall riscv_flush_icache riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address set_tls setdomainname
    setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 sethostname setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
    setsockopt setuid setuid32 setxattr setxattrat sgetmask shmat shmctl shmdt shmget shutdown sigaction sigaltstack
    signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend socketcall socketpair splice ssetmask stat
    stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee tgkill
    time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4
    waitid waitpid write writev
";

pub(crate) fn arg(index: u8, op: SeccompOp, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op }
}

pub(crate) fn rule(names: &[&str], action: SeccompAction, args: &[SeccompArg]) -> SeccompRule {
    SeccompRule { names: names.iter().map(|name| (*name).to_owned()).collect(), action, args: args.to_vec() }
}

pub(crate) fn seccomp(default_action: SeccompAction, architectures: &[&str], rules: Vec<SeccompRule>) -> Seccomp {
    Seccomp {
        default_action,
        architectures: architectures.iter().map(|name| (*name).to_owned()).collect(),
        flags: 0,
        rules,
        listener_path: None,
        listener_metadata: None,
    }
}

/// A profile in the shape of those that container engines use: a long list of allowed calls, a few by argument, `EPERM`
/// for the rest, `ENOSYS` for clone3.
pub(crate) fn container_profile(architectures: &[&str]) -> Seccomp {
    let names: Vec<&str> = ALLOWED.split_whitespace().collect();
    let mut rules = vec![rule(&names, SeccompAction::Allow, &[])];
    for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(rule(&["personality"], SeccompAction::Allow, &[arg(0, SeccompOp::Eq, domain, 0)]));
    }
    rules.extend([
        rule(&["clone"], SeccompAction::Allow, &[arg(0, SeccompOp::MaskedEq, 0x7e02_0000, 0)]),
        rule(&["clone3"], SeccompAction::Errno(38), &[]),
        rule(&["socket"], SeccompAction::Allow, &[arg(0, SeccompOp::Ne, 40, 0)]),
        rule(&["ioctl"], SeccompAction::Allow, &[arg(1, SeccompOp::Ne, 0x5412, 0)]),
        rule(&["process_madvise"], SeccompAction::Errno(1), &[]),
        rule(&["no_such_call"], SeccompAction::Allow, &[]),
    ]);
    seccomp(SeccompAction::Errno(1), architectures, rules)
}

/// Arguments that the conditions of the profiles tell apart, in all halves.
pub(crate) fn argument_patterns() -> Vec<[u64; 6]> {
    let values = [
        0,
        1,
        2,
        3,
        5,
        8,
        10,
        21,
        24,
        40,
        0x5412,
        0x2_0000,
        0x2_0008,
        0x0200_0000,
        0x7e02_0000,
        0xffff_fffe,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x1_0000_0028,
        0x5_0000_0005,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];
    let mut patterns = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let other = values[(at + 3) % values.len()];
        patterns.push([*value; 6]);
        patterns.push([*value, other, 0, other, *value, 1]);
        patterns.push([other, *value, other, 0, 1, *value]);
    }
    patterns
}
