//! The process of the config: user, groups, umask, capabilities, limits, scheduling, environment, working folder.

use std::fs;

use integration::host::{own_capability, status_field};
use integration::requires::{Need, PERL};
use integration::{Bundle, Sandbox, case, case_with, json};

/// The value of a line `NAME:\tHEX` of /proc/self/status.
fn hex_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).expect("a line of status");
    u64::from_str_radix(line.trim(), 16).expect("hex")
}

/// Runs `cat /proc/self/status` and returns it.
fn status_of(sb: &Sandbox, b: Bundle) -> String {
    sb.run(&b.args(&["cat", "/proc/self/status"])).ok()
}

#[test]
fn user_and_group_are_set_in_all_four_fields() {
    case(|sb| {
        let b = sb.bundle().set("/process/user", json!({ "uid": 1234, "gid": 5678 }));
        let status = status_of(sb, b);
        assert!(status.contains("Uid:\t1234\t1234\t1234\t1234"), "{status}");
        assert!(status.contains("Gid:\t5678\t5678\t5678\t5678"), "{status}");
    });
}

#[test]
fn the_default_umask_is_022() {
    case(|sb| assert_eq!(sb.run(&sb.bundle().sh("umask")).ok(), "0022"));
}

#[test]
fn the_umask_of_the_config_is_set() {
    case(|sb| {
        let b = sb.bundle().writable().set("/process/user/umask", json!(0o077));
        assert_eq!(sb.run(&b.sh("umask; touch /tmp/x; stat -c %a /tmp/x")).ok(), "0077\n600");
    });
}

#[test]
fn the_five_capability_sets_are_as_written() {
    case(|sb| {
        let caps = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
            "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_KILL", "CAP_SETUID"],
            "ambient": ["CAP_KILL"]
        });
        // As a plain user, exec keeps the ambient set alone in permitted and effective.
        let b =
            sb.bundle().set("/process/capabilities", caps).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let status = status_of(sb, b);
        assert_eq!(hex_of(&status, "CapBnd"), 1 | 1 << 5 | 1 << 7 | 1 << 13);
        assert_eq!(hex_of(&status, "CapInh"), 1 << 5 | 1 << 7);
        assert_eq!(hex_of(&status, "CapAmb"), 1 << 5);
        assert_eq!(hex_of(&status, "CapPrm"), 1 << 5);
        assert_eq!(hex_of(&status, "CapEff"), 1 << 5);
    });
}

#[test]
fn root_gets_the_bounding_set_at_exec() {
    case(|sb| {
        let caps =
            json!({ "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
        let status =
            status_of(sb, sb.bundle().set("/process/capabilities", caps).set("/process/noNewPrivileges", json!(false)));
        assert_eq!(hex_of(&status, "CapBnd"), 1 | 1 << 5);
        assert_eq!(hex_of(&status, "CapPrm"), 1 | 1 << 5);
    });
}

#[test]
fn no_capabilities_means_none() {
    case(|sb| {
        for b in [sb.bundle().unset("/process/capabilities"), sb.bundle().set("/process/capabilities", json!({}))] {
            let status = status_of(sb, b);
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(hex_of(&status, set), 0, "{set}");
            }
        }
    });
}

#[test]
fn an_unknown_capability_is_a_warning() {
    case(|sb| {
        let b = sb.bundle().capabilities(&["CAP_KILL", "CAP_FROM_THE_FUTURE"]);
        let out = sb.run(&b.args(&["cat", "/proc/self/status"]));
        assert_eq!(hex_of(&out.ok(), "CapBnd"), 1 << 5);
        assert!(out.stderr.contains("CAP_FROM_THE_FUTURE"), "{out:#?}");
    });
}

#[test]
fn a_plain_user_with_ambient_capabilities_can_use_them() {
    case(|sb| {
        let b = sb
            .bundle()
            .writable()
            .capabilities(&["CAP_CHOWN"])
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        sb.run(&b.sh("touch /tmp/x && chown 0:0 /tmp/x")).ok();
        let b = sb.bundle().writable().capabilities(&[]).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        sb.run(&b.sh("touch /tmp/x && chown 0:0 /tmp/x")).code_is(1);
    });
}

#[test]
fn limits_are_lowered() {
    case(|sb| {
        let limits = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_NPROC", "soft": 300, "hard": 400 },
            { "type": "RLIMIT_FSIZE", "soft": 1_048_576, "hard": 2_097_152 },
            { "type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 8_388_608 },
            { "type": "RLIMIT_CPU", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_MSGQUEUE", "soft": 1000, "hard": 2000 },
            { "type": "RLIMIT_NICE", "soft": 0, "hard": 0 }
        ]);
        let b = sb.bundle().set("/process/rlimits", limits);
        let text = sb.run(&b.args(&["cat", "/proc/self/limits"])).ok();
        let row = |name: &str| -> Vec<String> {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("a limit");
            line.split_whitespace().take(2).map(str::to_owned).collect()
        };
        assert_eq!(row("Max open files"), ["100", "200"]);
        assert_eq!(row("Max processes"), ["300", "400"]);
        assert_eq!(row("Max file size"), ["1048576", "2097152"]);
        assert_eq!(row("Max stack size"), ["1048576", "8388608"]);
        assert_eq!(row("Max cpu time"), ["100", "200"]);
        assert_eq!(row("Max core file size"), ["0", "0"]);
        assert_eq!(row("Max msgqueue size"), ["1000", "2000"]);
    });
}

#[test]
fn limits_that_are_not_named_are_inherited() {
    case(|sb| {
        let b = sb.bundle().set("/process/rlimits", json!([])).args(&["cat", "/proc/self/limits"]);
        let own = fs::read_to_string("/proc/self/limits").expect("read");
        let open = |text: &str| text.lines().find(|l| l.starts_with("Max open files")).expect("a line").to_owned();
        assert_eq!(open(&sb.run(&b).ok()), open(&own));
    });
}

#[test]
fn a_limit_can_be_raised() {
    case_with(&[Need::SysResource], |sb| {
        let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 500_000, "hard": 500_000 }]);
        assert_eq!(sb.run(&sb.bundle().set("/process/rlimits", limit).sh("ulimit -Hn")).ok(), "500000");
    });
}

#[test]
fn a_limit_that_may_not_be_raised_is_an_error() {
    case(|sb| {
        let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 900_000, "hard": 900_000 }]);
        let out = sb.run(&sb.bundle().set("/process/rlimits", limit).args(&["true"]));
        assert_eq!(out.code == 0, own_capability(24), "{out:#?}");
    });
}

#[test]
fn an_unknown_limit_is_an_error() {
    case(|sb| {
        let limit = json!([{ "type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1 }]);
        sb.create(&sb.bundle().set("/process/rlimits", limit)).code_is(1).fails_saying("RLIMIT_NOSUCH");
    });
}

#[test]
fn the_same_limit_twice_is_an_error() {
    case(|sb| {
        let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 });
        sb.create(&sb.bundle().set("/process/rlimits", json!([limit, limit]))).code_is(1).fails();
    });
}

#[test]
fn a_soft_limit_above_the_hard_one_is_an_error() {
    case(|sb| {
        let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 200, "hard": 100 }]);
        sb.run(&sb.bundle().set("/process/rlimits", limit).args(&["true"])).fails();
    });
}

#[test]
fn no_new_privileges_is_as_written() {
    case(|sb| {
        for (value, expected) in [(true, "NoNewPrivs:\t1"), (false, "NoNewPrivs:\t0")] {
            let status = status_of(sb, sb.bundle().set("/process/noNewPrivileges", json!(value)));
            assert!(status.contains(expected), "{value}: {status}");
        }
        let status = status_of(sb, sb.bundle().unset("/process/noNewPrivileges"));
        assert!(status.contains("NoNewPrivs:\t0"), "{status}");
    });
}

#[test]
fn a_set_user_id_program_works_unless_no_new_privileges() {
    case_with(&[PERL], |sb| {
        for (value, expected) in [(true, "1000"), (false, "0")] {
            let b = sb.bundle().with_perl().set("/process/noNewPrivileges", json!(value)).capabilities(&["CAP_SETUID"]);
            let b = b.file("/opt/perl", "", 0o755).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
            // A set-uid copy of cat would need its libraries; busybox drops the right by itself. Perl does not.
            let suid = b.rootfs().join("opt/perl");
            fs::copy("/usr/bin/perl", &suid).expect("copy");
            fs::set_permissions(&suid, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).expect("chmod");
            let out = sb.run(&b.args(&["/opt/perl", "-e", "print $>"]));
            assert_eq!(out.ok(), expected, "noNewPrivileges {value}");
        }
    });
}

#[test]
fn oom_score_adj_is_set() {
    case(|sb| {
        let b = sb.bundle().set("/process/oomScoreAdj", json!(432)).args(&["cat", "/proc/self/oom_score_adj"]);
        assert_eq!(sb.run(&b).ok(), "432");
    });
}

#[test]
fn oom_score_adj_is_the_callers_by_default() {
    case(|sb| {
        let own = fs::read_to_string("/proc/self/oom_score_adj").expect("read");
        assert_eq!(sb.run(&sb.bundle().args(&["cat", "/proc/self/oom_score_adj"])).ok(), own.trim());
    });
}

#[test]
fn oom_score_adj_is_lowered_with_the_capability() {
    case_with(&[Need::SysResource], |sb| {
        let b = sb.bundle().set("/process/oomScoreAdj", json!(-500)).args(&["cat", "/proc/self/oom_score_adj"]);
        assert_eq!(sb.run(&b).ok(), "-500");
    });
}

/// Field `number` (1 is the pid) of /proc/self/stat, as the container sees it.
fn stat_field(sb: &Sandbox, b: Bundle, number: usize) -> String {
    let text = sb.run(&b.args(&["cat", "/proc/self/stat"])).ok();
    text.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(number - 3)).expect("a field").to_owned()
}

#[test]
fn the_scheduler_is_set() {
    case(|sb| {
        let with = |scheduler| sb.bundle().set("/process/scheduler", scheduler);
        assert_eq!(stat_field(sb, with(json!({ "policy": "SCHED_BATCH", "nice": 7 })), 41), "3");
        assert_eq!(stat_field(sb, with(json!({ "policy": "SCHED_BATCH", "nice": 7 })), 19), "7");
        assert_eq!(stat_field(sb, with(json!({ "policy": "SCHED_IDLE" })), 41), "5");
    });
}

#[test]
fn the_realtime_priority_is_set() {
    case_with(&[Need::V1("cpu")], |sb| {
        // The v1 cpu controller gives a new group no realtime time of its own, nor to one below it.
        let parent = sb.cgroup("cpu", "");
        fs::create_dir(&parent).expect("mkdir");
        fs::write(parent.join("cpu.rt_runtime_us"), "20000").expect("write");
        let b = sb.bundle().set("/process/scheduler", json!({ "policy": "SCHED_FIFO", "priority": 5 }));
        let b = b.set("/linux/resources/cpu", json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000 }));
        assert_eq!(stat_field(sb, b, 40), "5");
    });
}

#[test]
fn an_unknown_scheduler_policy_is_an_error() {
    case(|sb| {
        let b = sb.bundle().set("/process/scheduler", json!({ "policy": "SCHED_NOSUCH" }));
        sb.create(&b).code_is(1).fails_saying("SCHED_NOSUCH");
    });
}

#[test]
fn the_io_priority_is_set() {
    case(|sb| {
        let b = sb.bundle().set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }));
        assert_eq!(sb.run(&b.args(&["ionice"])).ok(), "best-effort: prio 6");
        let b = sb.bundle().set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }));
        assert!(sb.run(&b.args(&["ionice"])).ok().starts_with("idle"));
    });
}

#[test]
fn exec_cpu_affinity_is_set_for_exec() {
    case_with(&[Need::Cpus(2)], |sb| {
        let b = sb.bundle().set("/process/execCPUAffinity", json!({ "initial": "0", "final": "1" })).sleeper();
        let c = sb.detached(&b);
        let seen = sb.exec(&c.id, &["grep", "Cpus_allowed_list", "/proc/self/status"]).ok();
        assert!(seen.ends_with("\t1"), "{seen}");
        let init = status_field(c.pid, "Cpus_allowed_list").expect("status");
        assert!(init.contains('-') || init.contains(','), "init is untouched: {init}");
    });
}

/// Runs the runtime with this thread's affinity, which is what it inherits.
fn bound_to_the_first_cpu<T>(work: impl FnOnce() -> T) -> T {
    let before = rustix::thread::sched_getaffinity(None).expect("read the affinity");
    let mut first = rustix::thread::CpuSet::new();
    let cpu = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).expect("a CPU");
    first.set(cpu);
    rustix::thread::sched_setaffinity(None, &first).expect("bind the thread");
    let result = work();
    rustix::thread::sched_setaffinity(None, &before).expect("put the affinity back");
    result
}

#[test]
fn the_affinity_of_the_caller_is_not_inherited() {
    case_with(&[Need::Cpus(2)], |sb| {
        let b = sb.bundle().sleeper();
        let (init, exec) = bound_to_the_first_cpu(|| {
            let c = sb.detached(&b);
            let exec = sb.exec(&c.id, &["grep", "Cpus_allowed_list", "/proc/self/status"]).ok();
            (status_field(c.pid, "Cpus_allowed_list").expect("status"), exec)
        });
        assert!(init.contains('-') || init.contains(','), "create: {init}");
        assert!(exec.contains('-') || exec.contains(','), "exec: {exec}");
    });
}

#[test]
fn few_open_files_do_not_stop_many_mounts() {
    case(|sb| {
        let dir = sb.host_dir("many");
        let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 8, "hard": 9 }]);
        let b = (0..24).fold(sb.bundle(), |b, n| b.bind(&dir, &format!("/mnt/{n}"), &[]));
        let b = b.set("/process/rlimits", limit).sh("ulimit -Sn; ulimit -Hn; ls /mnt | wc -l");
        assert_eq!(sb.run(&b).ok(), "8\n9\n24");
    });
}

#[test]
fn a_program_is_found_with_the_capabilities_that_it_will_have() {
    case(|sb| {
        let bundle = || {
            let b = sb.bundle().file("/bin/own", "#!/bin/sh\necho ran\n", 0o744);
            b.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).args(&["/bin/own"])
        };
        sb.run(&bundle().capabilities(&[])).fails_saying("permission denied");
        assert_eq!(sb.run(&bundle().capabilities(&["CAP_DAC_OVERRIDE"])).ok(), "ran");
    });
}

#[test]
fn exec_has_the_memory_policy_of_the_container() {
    case_with(&[Need::Program("/proc/self/numa_maps")], |sb| {
        let policy = json!({ "mode": "MPOL_BIND", "nodes": "0" });
        let c = sb.detached(&sb.bundle().set("/linux/memoryPolicy", policy).sleeper());
        let seen = sb.exec_sh(&c.id, "head -n 1 /proc/self/numa_maps").ok();
        assert!(seen.contains(" bind:0 "), "{seen}");
    });
}

#[test]
fn home_comes_from_the_passwd_file() {
    case(|sb| {
        let home = |uid: u32| {
            let b = sb.bundle().set("/process/user", json!({ "uid": uid, "gid": 0 }));
            sb.run(&b.sh("echo $HOME")).ok()
        };
        assert_eq!(home(0), "/root");
        assert_eq!(home(1000), "/home");
        assert_eq!(home(4321), "/");
    });
}

#[test]
fn home_of_the_config_wins() {
    case(|sb| {
        let b = sb.bundle().push("/process/env", json!("HOME=/elsewhere")).sh("echo $HOME");
        assert_eq!(sb.run(&b).ok(), "/elsewhere");
    });
}

#[test]
fn an_empty_home_is_filled_in() {
    case(|sb| {
        let b = sb.bundle().set("/process/env", json!(["PATH=/bin", "HOME=", "A=1", "HOME="])).args(&["env"]);
        assert_eq!(sb.run(&b).ok(), "PATH=/bin\nA=1\nHOME=/root");
    });
}

#[test]
fn the_environment_is_exact() {
    case(|sb| {
        let b =
            sb.bundle().set("/process/env", json!(["PATH=/bin", "A=1", "EMPTY=", "EQ=a=b", "HOME=/h"])).args(&["env"]);
        let out = sb.verb("run", &b, &[]).env("SECRET_OF_THE_CALLER", "x").run().ok();
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=1", "EMPTY=", "EQ=a=b", "HOME=/h", "PATH=/bin"]);
    });
}

#[test]
fn the_last_of_two_equal_variables_wins() {
    case(|sb| {
        let b = sb.bundle().set("/process/env", json!(["PATH=/bin", "A=1", "A=2"])).sh("echo $A");
        assert_eq!(sb.run(&b).ok(), "2");
    });
}

#[test]
fn cwd_is_made_when_missing() {
    case(|sb| {
        let b = sb.bundle().writable().set("/process/cwd", json!("/made/for/me")).args(&["pwd"]);
        assert_eq!(sb.run(&b).ok(), "/made/for/me");
    });
}

#[test]
fn a_relative_cwd_is_an_error() {
    case(|sb| {
        sb.create(&sb.bundle().set("/process/cwd", json!("tmp"))).code_is(1);
        let text = sb.create(&sb.bundle().set("/process/cwd", json!("tmp"))).fails();
        assert!(text.to_lowercase().contains("cwd"), "{text}");
    });
}

#[test]
fn a_cwd_that_only_root_may_enter_is_entered_before_the_change_of_user() {
    case(|sb| {
        let b = sb.bundle().folder("/secret");
        fs::set_permissions(b.rootfs().join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("chmod");
        let b = b.set("/process/cwd", json!("/secret")).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let b = b.capabilities(&["CAP_DAC_OVERRIDE"]);
        assert_eq!(sb.run(&b.args(&["pwd"])).ok(), "/secret");
    });
}

#[test]
fn the_personality_is_set() {
    case(|sb| {
        let b = sb.bundle().set("/linux/personality", json!({ "domain": "LINUX32" })).args(&["uname", "-m"]);
        assert_eq!(sb.run(&b).ok(), "i686");
        assert_eq!(sb.run(&sb.bundle().args(&["uname", "-m"])).ok(), std::env::consts::ARCH);
    });
}

#[test]
fn host_name_and_domain_name_are_set() {
    case(|sb| {
        let b = sb.bundle().set("/hostname", json!("mine")).set("/domainname", json!("example.org"));
        let b = b.sh("hostname; cat /proc/sys/kernel/domainname");
        assert_eq!(sb.run(&b).ok(), "mine\nexample.org");
    });
}

#[test]
fn init_is_process_one_and_has_no_parent() {
    case(|sb| {
        let b = sb.bundle().sh("echo $$; grep PPid /proc/self/status");
        assert_eq!(sb.run(&b).ok().lines().next(), Some("1"));
        let b = sb.bundle().args(&["grep", "PPid", "/proc/self/status"]);
        assert_eq!(sb.run(&b).ok(), "PPid:\t0");
    });
}

#[test]
fn signals_are_not_blocked_or_ignored() {
    case(|sb| {
        let status = status_of(sb, sb.bundle());
        // Signals from 32 on are the C library's own; a caller may have inherited them blocked or ignored.
        assert_eq!(hex_of(&status, "SigBlk") & 0x7fff_ffff, 0);
        assert_eq!(hex_of(&status, "SigIgn") & 0x7fff_ffff, 0);
    });
}

#[test]
fn the_process_has_no_parent_death_signal_and_one_thread() {
    case(|sb| {
        let status = status_of(sb, sb.bundle());
        assert!(status.contains("Threads:\t1\n"), "{status}");
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
    });
}

#[test]
fn arguments_are_passed_byte_for_byte() {
    case(|sb| {
        let b = sb.bundle().args(&["printf", "%s|", "", "a b", "\u{fc}ml", "new\nline", "--", "-x", "$HOME"]);
        assert_eq!(sb.run(&b).ok(), "|a b|\u{fc}ml|new\nline|--|-x|$HOME|");
    });
}

#[test]
fn a_long_argument_list_fits() {
    case(|sb| {
        let long = "x".repeat(100_000);
        let b = sb.bundle().args(&["sh", "-c", "echo ${#1} ${#2}", "sh", &long, &long]);
        assert_eq!(sb.run(&b).ok(), "100000 100000");
    });
}

#[test]
fn without_a_process_nothing_starts() {
    case(|sb| {
        // The specification refuses `start`; runtimes that refuse `create` already are known.
        let b = sb.bundle().unset("/process");
        let created = sb.create(&b);
        if created.code == 0 {
            sb.start(&b.id).fails();
        } else {
            created.fails();
        }
    });
}

#[test]
fn a_null_device_among_the_standard_streams_is_the_containers_own() {
    case(|sb| {
        let b = sb.bundle().sh("stat -L -c %d /proc/self/fd/0 /dev/null; echo more > /dev/stdin");
        let said = sb.run(&b).ok();
        let devices: Vec<_> = said.split_whitespace().collect();
        assert!(devices.len() == 2 && devices[0] == devices[1], "file systems of both nodes: {said}");
    });
}
