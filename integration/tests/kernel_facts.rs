//! Facts of the kernel that fix the order of a start, and how the runtime obeys them. `docs/design/0002-start-path.md`
//! names the test of each. Those that only the runtime of this workspace keeps are for it alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use integration::bundle::BUSYBOX;
use integration::requires::{Need, PERL, skip_without};
use integration::runtime::Kind;
use integration::{Bundle, Output, Sandbox, case, case_with, host, json};

const STRACE: Need = Need::Program("/usr/bin/strace");

/// Whether the promise is one that other runtimes do not make.
fn of_skep_alone(sb: &Sandbox) -> bool {
    sb.runtime.kind == Kind::Skep
}

/// Calls verbs under strace, which writes these calls of all processes to a file. `-y` shows the path of a descriptor.
fn traced(sb: &Sandbox, calls: &str, args: &[&str]) -> (Output, Vec<Traced>) {
    let file = sb.dir.join("trace");
    let call = sb.program("/usr/bin/strace").args(["-f", "-y", "-s", "64", "-e", &format!("trace={calls}"), "-o"]);
    let call = call.arg(&file).arg(&sb.runtime.path).arg("--root").arg(&sb.root).args(args);
    let output = call.run();
    let text = fs::read_to_string(&file).expect("read the trace");
    (output, text.lines().filter_map(Traced::parse).collect())
}

/// One call: whose, which, and the line.
#[derive(Debug, Clone)]
struct Traced {
    pid: i32,
    call: String,
    line: String,
}

impl Traced {
    /// Signals, ends of processes and second halves of interrupted calls are no calls.
    fn parse(line: &str) -> Option<Traced> {
        let (pid, rest) = line.split_once(' ')?;
        let call = rest.trim_start().split_once('(')?.0;
        let is_name = !call.is_empty() && call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_name.then(|| Traced { pid: pid.parse().expect("a pid"), call: call.to_owned(), line: rest.to_owned() })
    }
}

fn run_args(b: &Bundle) -> [&str; 4] {
    b.write();
    ["run", "--bundle", b.dir.to_str().expect("UTF-8"), &b.id]
}

/// Every kind that one clone can make, and the user namespace with its mappings, come from one clone3.
#[test]
fn one_clone3_makes_the_namespaces_with_the_user_namespace_and_its_mappings() {
    case_with(&[STRACE], |sb| {
        if !of_skep_alone(sb) {
            return;
        }
        let b = sb.bundle().user_namespace().namespace("time", None).args(&["cat", "/proc/self/uid_map"]);
        let (out, trace) = traced(sb, "clone,clone3,fork,vfork,unshare,setns", &run_args(&b));
        assert_eq!(out.ok().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        let made: Vec<_> = trace.iter().filter(|t| t.call != "unshare").collect();
        assert_eq!(made.len(), 1, "{made:#?}");
        for flag in ["NEWUSER", "NEWPID", "NEWNS", "NEWNET", "NEWIPC", "NEWUTS"] {
            assert!(made[0].line.contains(&format!("CLONE_{flag}")), "{flag}: {made:#?}");
        }
        // Memory that is shared with what enters a container would be within reach of a tracer in it.
        assert!(!made[0].line.contains("CLONE_VM") && !made[0].line.contains("CLONE_VFORK"), "{made:#?}");
        let unshared: Vec<_> = trace.iter().filter(|t| t.call == "unshare").collect();
        assert!(unshared.iter().all(|t| t.line.contains("(CLONE_NEWCGROUP)")), "{unshared:#?}");
    });
}

fn namespace_of(pid: i32, file: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("readlink of a namespace")
}

/// A bundle without the namespaces and mappings of the default.
fn without_namespaces(b: Bundle) -> Bundle {
    b.set("/linux/namespaces", json!([])).unset("/linux/uidMappings").unset("/linux/gidMappings").unset("/hostname")
}

fn path_of(pid: i32, file: &str) -> String {
    format!("/proc/{pid}/ns/{file}")
}

#[test]
fn a_user_namespace_is_joined_by_its_path() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().user_namespace().sleeper());
        let b = sb.bundle().user_namespace().unset("/linux/uidMappings").unset("/linux/gidMappings");
        let c = sb.detached(&b.namespace("user", Some(&path_of(holder.pid, "user"))).sleeper());
        assert_eq!(namespace_of(c.pid, "user"), namespace_of(holder.pid, "user"));
        // The others are new, and belong to that user namespace: its root may name the host.
        assert_ne!(namespace_of(c.pid, "uts"), namespace_of(holder.pid, "uts"));
        assert_eq!(fs::metadata(format!("/proc/{}", c.pid)).expect("stat").uid(), 100_000);
        assert_eq!(sb.exec(&c.id, &["id", "-u"]).ok(), "0");
    });
}

#[test]
fn every_kind_but_mount_is_joined_at_once() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().user_namespace().namespace("time", None).sleeper());
        let kinds = [
            ("user", "user"),
            ("pid", "pid"),
            ("network", "net"),
            ("ipc", "ipc"),
            ("uts", "uts"),
            ("cgroup", "cgroup"),
            ("time", "time"),
        ];
        let b = without_namespaces(sb.bundle().user_namespace()).namespace("mount", None);
        let b = kinds.iter().fold(b, |b, (kind, file)| b.namespace(kind, Some(&path_of(holder.pid, file))));
        let c = sb.detached(&b.sleeper());
        for (kind, file) in kinds {
            assert_eq!(namespace_of(c.pid, file), namespace_of(holder.pid, file), "{kind}");
        }
        assert_eq!(sb.exec(&c.id, &["id", "-u"]).ok(), "0");
    });
}

/// The namespace has to show the root file system at its path, so the holder is a copy of the host's mounts.
#[test]
fn a_mount_namespace_is_joined_by_its_path() {
    case(|sb| {
        let holder = sb.program("/usr/bin/unshare").args(["--mount", "--propagation", "private", "sleep", "1000"]);
        let holder = holder.spawn();
        let own = namespace_of(i32::try_from(std::process::id()).expect("a pid"), "mnt");
        host::eventually("it has its own", || namespace_of(holder.pid(), "mnt") != own);
        let c = sb.detached(&sb.bundle().namespace("mount", Some(&path_of(holder.pid(), "mnt"))).sleeper());
        assert_eq!(namespace_of(c.pid, "mnt"), namespace_of(holder.pid(), "mnt"));
        assert_eq!(sb.exec(&c.id, &["cat", "/etc/passwd"]).ok().lines().count(), 2, "the bundle's root");
        sb.delete_force(&c.id).ok();
    });
}

/// Flag of clone3 and unshare: a time namespace for the children (linux/sched.h).
const NEWTIME: &str = "0x80";

/// A process that clone3 put into a new time namespace is in it already, so its offsets are fixed (EACCES, 13); one that
/// unshared it may set them before its first child is born. That is why offsets take a launcher.
#[test]
fn offsets_of_a_time_namespace_come_before_its_first_process() {
    if skip_without(&[Need::Root, PERL]) {
        return;
    }
    // 435 is clone3 on every architecture; its struct is eleven 64-bit fields: flags first, SIGCHLD fifth.
    let script = format!(
        r#"
        sub offset {{ open(my $f, '>', '/proc/self/timens_offsets') or return $!+0;
                      defined(syswrite($f, "monotonic 5 0\n")) ? 0 : $!+0 }}
        $| = 1;
        my $args = pack("Q11", {NEWTIME}, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0);
        my $pid = syscall(435, $args, 88);
        die "clone3: $!" if $pid < 0;
        if ($pid == 0) {{ print "clone3 ", offset(), "\n"; exit 0 }}
        waitpid($pid, 0);
        my $unshare = {{ x86_64 => 272, aarch64 => 97 }}->{{(split ' ', `uname -m`)[0]}};
        syscall($unshare, {NEWTIME}) == 0 or die "unshare: $!";
        print "unshare ", offset(), "\n";
        "#
    );
    let said = std::process::Command::new("/usr/bin/perl").args(["-e", &script]).output().expect("start perl");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "clone3 13\nunshare 0\n", "{said:?}");
}

/// The cgroup namespace is made after the last attach, so every hierarchy shows its top, in run and in exec.
#[test]
fn after_the_last_attach_every_hierarchy_shows_its_top() {
    case(|sb| {
        let tops = |text: String| {
            let wrong: Vec<&str> = text.lines().filter(|line| !line.ends_with(":/")).collect();
            assert!(wrong.is_empty() && text.lines().count() > 1, "{text}");
        };
        let c = sb.detached(&sb.bundle().sleeper());
        tops(sb.exec(&c.id, &["cat", "/proc/1/cgroup"]).ok());
        tops(sb.exec(&c.id, &["cat", "/proc/self/cgroup"]).ok());
        let b = sb.bundle().user_namespace().args(&["cat", "/proc/self/cgroup"]);
        tops(sb.run(&b).ok());
    });
}

/// What enters groups: `0` to each v1 `tasks` file once, and clone3 into the unified group; a pid is written nowhere.
#[track_caller]
fn enters_by_itself(trace: &[Traced]) {
    let writes: Vec<_> = trace.iter().filter(|t| t.call == "write" && t.line.contains("/sys/fs/cgroup/")).collect();
    let procs: Vec<_> = writes.iter().filter(|t| t.line.contains("cgroup.procs")).collect();
    assert!(procs.is_empty(), "{procs:#?}");
    let tasks: Vec<_> = writes.iter().filter(|t| t.line.contains("/tasks>")).collect();
    let files: BTreeSet<&str> = tasks.iter().filter_map(|t| t.line.split(['<', '>']).nth(1)).collect();
    let hierarchies = host::own_mounts().iter().filter(|m| m.fstype == "cgroup").count();
    assert_eq!((tasks.len(), files.len()), (hierarchies, hierarchies), "{tasks:#?}");
    assert!(tasks.iter().all(|t| t.line.contains("\"0\", 1)")), "{tasks:#?}");
    // One process enters all, memory first, freezer last.
    assert_eq!(tasks.iter().map(|t| t.pid).collect::<BTreeSet<_>>().len(), 1);
    assert!(tasks.first().is_some_and(|t| t.line.contains("memory")), "{tasks:#?}");
    assert!(tasks.last().is_some_and(|t| t.line.contains("freezer")), "{tasks:#?}");
    if host::own_mounts().iter().any(|m| m.fstype == "cgroup2") {
        assert!(trace.iter().any(|t| t.call == "clone3" && t.line.contains("CLONE_INTO_CGROUP")), "{trace:#?}");
    }
}

#[test]
fn groups_are_entered_by_one_zero_each_and_by_the_clone() {
    case_with(&[STRACE, Need::V1("memory"), Need::V1("freezer")], |sb| {
        if !of_skep_alone(sb) {
            return;
        }
        let (out, trace) = traced(sb, "clone3,write", &run_args(&sb.bundle().args(&["true"])));
        out.ok();
        enters_by_itself(&trace);
        let c = sb.detached(&sb.bundle().sleeper());
        let (out, trace) = traced(sb, "clone3,write", &["exec", &c.id, "true"]);
        out.ok();
        enters_by_itself(&trace);
    });
}

/// Device rules and limits come before the hooks; after the first hook nothing writes to a group.
#[test]
fn nothing_is_written_to_the_groups_after_the_hooks() {
    case_with(&[STRACE, Need::V1("devices")], |sb| {
        if !of_skep_alone(sb) {
            return;
        }
        let b = sb.bundle().hook("createRuntime", ":").set("/linux/resources/pids", json!({ "limit": 50 }));
        let (out, trace) = traced(sb, "write,execve", &run_args(&b.args(&["true"])));
        out.ok();
        let hook = trace.iter().position(|t| t.call == "execve" && t.line.contains("/bin/sh")).expect("the hook");
        let is_limit = |t: &Traced| t.call == "write" && t.line.contains("/sys/fs/cgroup/");
        let (before, after) = trace.split_at(hook);
        for file in ["devices.deny", "devices.allow", "pids.max"] {
            assert!(before.iter().any(|t| is_limit(t) && t.line.contains(file)), "{file}: {before:#?}");
        }
        let late: Vec<_> = after.iter().filter(|t| is_limit(t)).collect();
        assert!(late.is_empty(), "{late:#?}");
    });
}

/// A group of the test's own in a v1 hierarchy, removed with the sandbox.
fn own_group(sb: &Sandbox, controller: &str) -> PathBuf {
    let dir = host::v1_mount(controller).expect("a v1 hierarchy").join(&sb.name);
    fs::create_dir_all(&dir).expect("make a group");
    dir
}

fn enter(sb: &Sandbox, group: &Path, then: &str) -> integration::Call {
    sb.program(BUSYBOX).args(["sh", "-c", &format!("echo 0 > {}/tasks && {then}", group.display())])
}

#[test]
fn a_cpuset_without_cpus_refuses_an_attach() {
    case_with(&[Need::V1("cpuset")], |sb| {
        let group = own_group(sb, "cpuset");
        fs::write(group.join("cpuset.cpus"), "\n").expect("empty the cpus");
        enter(sb, &group, "true").run().fails_saying("No space left on device");
    });
}

/// A task that enters a FROZEN group stops right there, which is why the freezer comes last and a paused container
/// takes no exec.
#[test]
fn a_task_that_enters_a_frozen_group_stops() {
    case_with(&[Need::V1("freezer")], |sb| {
        let group = own_group(sb, "freezer");
        fs::write(group.join("freezer.state"), "FROZEN").expect("freeze");
        let mut entering = enter(sb, &group, "echo on").spawn();
        let inside = || fs::read_to_string(group.join("tasks")).is_ok_and(|tasks| !tasks.is_empty());
        host::eventually("it is in the group", inside);
        assert!(!host::within(std::time::Duration::from_millis(300), || entering.ended()), "it goes on");
        fs::write(group.join("freezer.state"), "THAWED").expect("thaw");
        assert_eq!(entering.wait(std::time::Duration::from_secs(20)).ok(), "on");
    });
}

#[test]
fn a_paused_container_takes_no_exec() {
    case_with(&[Need::V1("freezer")], |sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["pause", &c.id]).run().ok();
        sb.exec(&c.id, &["true"]).fails_saying("paused");
        sb.call(&["resume", &c.id]).run().ok();
        sb.exec(&c.id, &["true"]).ok();
    });
}

#[test]
fn device_rules_cannot_be_reset_once_a_group_has_children() {
    case_with(&[Need::V1("devices")], |sb| {
        let group = own_group(sb, "devices");
        fs::write(group.join("devices.deny"), "a").expect("a group without children takes it");
        fs::create_dir(group.join("below")).expect("make a child");
        let refused = fs::write(group.join("devices.allow"), "a").expect_err("a group with children refuses it");
        assert_eq!(refused.raw_os_error(), Some(22), "{refused}");
        fs::remove_dir(group.join("below")).expect("remove the child");
    });
}

/// Prints the serial number of the session keyring: keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING).
const SESSION_KEYRING: &str =
    "my $n = {x86_64 => 250, aarch64 => 219}->{(split ' ', `uname -m`)[0]}; print syscall($n, 0, -3, 0), qq(\\n)";

#[test]
fn the_session_keyring_is_apart_from_the_callers_and_exec_joins_it() {
    case_with(&[PERL], |sb| {
        let perl = ["/usr/bin/perl", "-e", SESSION_KEYRING];
        let callers = sb.program("/usr/bin/perl").args(["-e", SESSION_KEYRING]).run().ok();
        let script = format!("/usr/bin/perl -e '{}'; sleep 1000", SESSION_KEYRING.replace('\'', "'\\''"));
        let c = sb.detached(&sb.bundle().with_perl().sh(&script));
        host::eventually("the serial", || c.output.stdout_now().ends_with('\n'));
        let own = c.output.stdout_now().trim().to_owned();
        assert!(own.parse::<i64>().is_ok_and(|serial| serial > 0), "{own}");
        assert_ne!(own, callers);
        assert_eq!(sb.exec(&c.id, &perl).ok(), own, "exec joins the container's");
        let other = sb.run(&sb.bundle().with_perl().args(&perl)).ok();
        assert_ne!(other, own, "another container has another");
    });
}

/// A process that is not dumpable shows its environment to root alone; see proc(5).
fn owner_of_environ(pid: i32) -> u32 {
    fs::metadata(format!("/proc/{pid}/environ")).expect("stat of environ").uid()
}

#[test]
fn what_waits_for_its_start_is_not_dumpable() {
    case(|sb| {
        let b = sb.bundle().set("/process/user", json!({ "uid": 1000, "gid": 1000 })).sleeper();
        sb.create(&b).ok();
        let pid = sb.state(&b.id)["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        assert_eq!(host::status_field(pid, "Uid").as_deref(), Some("1000\t1000\t1000\t1000"), "it is the user already");
        assert_eq!(owner_of_environ(pid), 0);
        sb.start(&b.id).ok();
        host::eventually("its program is", || owner_of_environ(pid) == 1000);
    });
}

/// Whether the file that a process executes is seen through a read-only mount: nobody can write to it through /proc.
fn exe_is_read_only(pid: i32) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/exe")) else { return false };
    let flags = rustix::fs::fstatvfs(&file).expect("statvfs").f_flag;
    flags.contains(rustix::fs::StatVfsMountFlags::RDONLY)
}

#[test]
fn the_runtimes_file_is_on_a_read_only_mount_in_create_run_and_exec() {
    case(|sb| {
        if !of_skep_alone(sb) {
            return;
        }
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        let pid = sb.state(&b.id)["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        assert!(exe_is_read_only(pid), "create");
        let running = sb.verb("run", &sb.bundle().sleeper(), &[]).spawn();
        host::eventually("run is protected", || exe_is_read_only(running.pid()));
        sb.start(&b.id).ok();
        let execing = sb.exec_call(&b.id, &[], &["sleep", "1000"]).spawn();
        host::eventually("exec is protected", || exe_is_read_only(execing.pid()));
    });
}
