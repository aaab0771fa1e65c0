//! The tools for containers that run, and those for none.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use integration::case_with;
use integration::defined::text;
use integration::host::eventually;
use integration::requires::Need;

use crate::{Face, SLEEPER};

#[test]
fn a_command_is_executed_in_a_container_of_its_own() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let one = face.container("one", "lxc.mount.auto = proc\n");
        let ran = face.call("lxc-execute", &["-n", &one, "--", "sh", "-c", "echo out; echo $$; exit 7"]);
        assert_eq!((ran.code, ran.stdout_now().trim()), (7, "out\n2"), "a first process is before it");
        assert_eq!(face.call("lxc-execute", &[&one, "-u", "7", "-g", "8", "--", "id"]).ok(), "uid=7 gid=8");
        assert_eq!(face.call("lxc-execute", &[&one, "-s", "lxc.uts.name=x", "--", "hostname"]).ok(), "x");
        let fed = face.prepare("lxc-execute", &[&one, "--", "sh", "-c", "read line; echo $line; cat"]);
        assert_eq!(fed.stdin_bytes(b"first\nrest\nend\n").run().ok(), "first\nrest\nend");
        // Nobody else holds what it reads: when it reads no more, whoever writes is told.
        let (reader, mut writer) = std::io::pipe().expect("make a pipe");
        let deaf = face.prepare("lxc-execute", &[&one, "--", "sh", "-c", "exec <&-; echo closed; sleep 1000"]);
        let deaf = deaf.stdin(reader).spawn();
        eventually("it has closed it", || deaf.stdout().contains("closed"));
        assert_eq!(writer.write_all(b"x").expect_err("nobody reads").kind(), std::io::ErrorKind::BrokenPipe);
        face.call("lxc-stop", &["-k", &one]).ok();
        deaf.wait(Duration::from_secs(20)).code_is(137);
        assert_eq!(face.call("lxc-execute", &[&one, "--", "no-such-program"]).code, 127);
        face.call("lxc-execute", &[&one, "-s", "lxc.mount.entry = /no/such mnt none bind", "--", "true"]).code_is(255);
        let config = face.path.join(&one).join("config");
        let keys = fs::read_to_string(&config).expect("read") + "lxc.execute.cmd = hostname\n";
        fs::write(&config, &keys).expect("write");
        assert_eq!(face.call("lxc-execute", &[&one]).ok(), one);
        assert_eq!(face.call("lxc-info", &[&one, "-sH"]).ok(), "STOPPED");

        // One without a folder is gone with its command.
        let (other, file) = (face.d.name("other"), sb.dir.join("other.conf"));
        fs::write(&file, keys).expect("write");
        assert_eq!(face.call("lxc-execute", &["-n", &other, "-f", text(&file), "--", "hostname"]).ok(), other);
        face.call("lxc-destroy", &[&one]).ok();
        assert_eq!(face.d.call(&["ls", "-q"]).ok(), "");
    });
}

#[test]
fn a_container_that_runs_has_a_console_devices_and_processes() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let keys = "lxc.init.cmd = /bin/sh -c \"while read line; do echo got $line; done\"\nlxc.signal.halt = SIGKILL\n\
                    lxc.mount.auto = proc sys\nlxc.cgroup.devices.deny = a\nlxc.cgroup.devices.allow = c *:* m\n\
                    lxc.cgroup.devices.allow = c 5:* rwm\nlxc.cgroup.devices.allow = c 136:* rwm\n";
        let one = face.container("one", keys);
        face.call("lxc-start", &[&one]).ok();
        let line = "(printf 'hello\\n'; sleep 1; printf '\\001q') | \"$@\"";
        let skep =
            [text(&sb.runtime.path), "--root", text(&sb.root), "lxc-console", "-P", text(&face.path), "-n", &one];
        let joined =
            sb.program("/bin/sh").args(["-c", line, "sh"]).args(skep).env("SKEP_DATA", text(&face.d.data)).run();
        assert!(joined.ok().contains("got hello"), "{joined:?}");
        face.call("lxc-console", &[&one, "-t", "3"]).fails_saying("console denied");

        let opens = || face.call("lxc-attach", &[&one, "--", "sh", "-c", ": < /dev/fuse"]).code == 0;
        assert!(!opens());
        face.call("lxc-device", &["-n", &one, "add", "/dev/fuse"]).ok();
        assert!(opens());
        face.call("lxc-device", &["-n", &one, "add", "/no/such"]).fails_saying("Failed to add /no/such to");
        face.call("lxc-device", &["-n", &one, "remove", "/dev/fuse"]).fails_saying("use add or del");
        face.call("lxc-device", &["-n", &one]).fails_saying("no command given");
        face.call("lxc-device", &["-n", &one, "del", "/dev/fuse"]).ok();
        assert!(!opens());

        let pid = face.call("lxc-info", &[&one, "-pH"]).ok();
        let shown = face.call("lxc-ps", &["--lxc", "--", "-e", "-o", "pid,comm"]).ok();
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["CONTAINER", "PID", "COMMAND"]);
        assert_eq!(rows[1][..2], [one.as_str(), pid.as_str()]);
        assert!(rows[1..].iter().all(|row| row[0] == one), "{shown}");
        assert_eq!(face.call("lxc-ps", &["-n", &one, "--", "-e", "-o", "pid,comm"]).ok(), shown);
        face.call("lxc-ps", &["-n", "nobody"]).fails_saying("there is no container nobody");
        face.call("lxc-ps", &["--", "-o", "comm"]).fails_saying("no column PID");

        let mut top = face.d.prepare(&["lxc-top", "-P", text(&face.path), "-b", "-d", "0.1"]).spawn();
        eventually("there are two looks", || top.stdout().lines().count() > 2);
        top.kill();
        let captured = top.stdout();
        let lines: Vec<&str> = captured.lines().collect();
        assert!(lines[0].starts_with("time_ms,container,cpu_nanos,cpu_sys_userhz"), "{captured}");
        let fields: Vec<&str> = lines[1].split(',').collect();
        assert_eq!((fields.len(), fields[1]), (10, one.as_str()));
        assert!(fields[2].parse::<u64>().expect("a number") > 0 && fields[7].parse::<u64>().expect("a number") > 0);
        face.call("lxc-destroy", &["-f", &one]).ok();
    });
}

#[test]
fn changes_are_told_in_the_words_of_lxc() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let one = face.container("one", SLEEPER);
        let two = face.d.name("two");
        face.bare(&two, "lxc.rootfs.path = /nowhere\n");
        let mut monitor = face.d.prepare(&["lxc-monitor", "-P", text(&face.path), "-n", &one]).spawn();
        let waiting = |state| face.d.prepare(&["lxc-wait", "-P", text(&face.path), "-n", &one, "-s", state]).spawn();
        std::thread::sleep(Duration::from_millis(500));
        let (runs, frozen) = (waiting("RUNNING"), waiting("FROZEN"));
        face.call("lxc-start", &[&one]).ok();
        runs.wait(Duration::from_secs(10)).ok();
        face.call("lxc-freeze", &[&one]).ok();
        frozen.wait(Duration::from_secs(10)).ok();
        face.call("lxc-unfreeze", &[&one]).ok();
        let stopped = waiting("STOPPED");
        eventually("that it goes on is told", || monitor.stdout().contains("[THAWED]"));
        face.call("lxc-stop", &[&one]).ok();
        stopped.wait(Duration::from_secs(10)).ok();
        let expected: Vec<String> =
            ["STARTING", "RUNNING", "FREEZING", "FROZEN", "THAWED", "RUNNING", "STOPPING", "STOPPED"]
                .iter()
                .map(|state| format!("'{one}' changed state to [{state}]"))
                .collect();
        let told = || -> Vec<String> {
            let all = monitor.stdout();
            all.lines().filter(|line| line.contains("changed state")).map(str::to_owned).collect()
        };
        eventually("all is told", || told().len() >= expected.len());
        assert_eq!(told(), expected);
        monitor.kill();
        assert_eq!(face.call("lxc-wait", &["-n", &one, "-s", "RUNNING", "-t", "0"]).code, 1);
        face.call("lxc-destroy", &[&one]).ok();
    });
}

#[test]
fn commands_have_namespaces_without_a_container() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let run = |tool: &str, args: &[&str]| face.d.call(&[&[tool], args].concat());
        let maps = ["cat", "/proc/self/uid_map", "/proc/self/gid_map"];
        let shown = run("lxc-usernsexec", &[&["-m", "b:0:100000:65536", "--"][..], &maps].concat()).ok();
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["0", "100000", "65536"], ["0", "100000", "65536"]]);
        let shown = run("lxc-usernsexec", &["-s", "-m", "b:0:100000:9", "--", "cat", "/proc/self/uid_map"]).ok();
        assert_eq!(shown.lines().nth(1).expect("a row").split_whitespace().collect::<Vec<_>>(), ["9", "0", "1"]);
        let id =
            run("lxc-usernsexec", &["-m", "u:0:100000:9", "-m", "g:0:200000:9", "--", "sh", "-c", "id -u; exit 5"]);
        assert_eq!((id.code, id.stdout_now().trim()), (5, "0"));
        assert_eq!(run("lxc-usernsexec", &["-m", "b:0:100000:9", "--", "no-such-program"]).code, 1);
        assert_eq!(run("lxc-usernsexec", &["-m", "nonsense", "--", "true"]).code, 1);
        assert_eq!(run("lxc-usernsexec", &["-m", "b:5:100000:9", "--", "true"]).code, 1, "there is no root");
        let shown = run("lxc-unshare", &["-s", "PID|MOUNT", "-M", "--", "sh", "-c", "ls -d /proc/[0-9]*"]).ok();
        assert!(shown.lines().all(|line| line == "/proc/1" || line == "/proc/2"), "{shown}");
        assert_ne!(fs::read_link("/proc/self").expect("proc").to_str(), Some("1"), "the host's is as it was");
        let host = Command::new("hostname").output().expect("run");
        assert_eq!(run("lxc-unshare", &["-s", "UTSNAME", "-H", "inside", "--", "hostname"]).ok(), "inside");
        assert_eq!(Command::new("hostname").output().expect("run").stdout, host.stdout);
    });
}
