//! Whole systems: each init boots, is logged into at its console, reboots from inside and stops when asked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use integration::defined::{Defined, text};
use integration::host::{eventually, time_factor, within};
use integration::requires::Need;
use integration::systems::{AtConsole, roots};
use integration::{Sandbox, case_with};

const NEEDS: [Need; 2] = [Need::Skep, Need::Systems];

/// One that has not followed its own verb by then is asked by SIGTERM, and later killed: seconds.
fn patience() -> u64 {
    60 * u64::from(time_factor())
}

fn root(name: &str) -> PathBuf {
    roots().expect("they are needed").join(name)
}

/// Defines a container of one of the root file systems.
fn define<'a>(sb: &'a Sandbox, init: &str, options: &[&str], command: &[&str]) -> (Defined<'a>, String) {
    let d = Defined::new(sb);
    let name = d.name(init);
    let options = [&["--init"], options].concat();
    if command.is_empty() {
        d.create_plain(&name, text(&root(init)), &options).ok();
    } else {
        d.create(&name, text(&root(init)), &options, command).ok();
    }
    (d, name)
}

/// Stops it, and checks that its init did it when it was asked.
fn stop(d: &Defined<'_>, name: &str) {
    let begin = Instant::now();
    let call = d.prepare(&["stop", "--time", &patience().to_string(), name]);
    call.deadline(Duration::from_secs(90)).run().ok();
    assert!(begin.elapsed() < Duration::from_secs(patience()) * 3 / 4, "it had to be killed: {:?}", begin.elapsed());
    assert_eq!(d.listed(name)["state"], "stopped");
}

/// How the last run ended.
fn last(d: &Defined<'_>, name: &str) -> integration::Value {
    let text = fs::read(d.folder(name).join("own/last.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Boots, is logged into, reboots from inside, is logged into again, and stops.
fn leads_a_life(init: &str, options: &[&str], log_in: impl Fn(&mut AtConsole)) {
    case_with(&NEEDS, |sb| {
        let (d, name) = define(sb, init, options, &[]);
        d.call(&["start", &name]).ok();
        let mut console = AtConsole::join(&d, &name);
        log_in(&mut console);
        console.type_in("echo sum=$((40+2))", "sum=42");
        console.type_in("reboot || busybox reboot", "");
        let rebooted = || last(&d, &name)["reboot"] == "rebooted";
        assert!(within(Duration::from_secs(60), rebooted), "it goes on: {:?}", console.seen());
        drop(console);
        let mut console = AtConsole::join(&d, &name);
        log_in(&mut console);
        assert_eq!(sb.exec_sh(&name, "hostname").ok(), d.listed(&name)["name"]);
        stop(&d, &name);
        assert_eq!((&last(&d, &name)["reason"], &last(&d, &name)["reboot"]), (&"stopped".into(), &"halted".into()));
        d.call(&["destroy", &name]).ok();
    });
}

/// From 258 on it knows cgroup v2 alone.
#[test]
fn the_newest_systemd_begins_again_and_stops() {
    if !integration::requires::skip_without(&[Need::Skep, Need::Systems, Need::NewestSystemd]) {
        leads_a_life("newest", &[], AtConsole::log_in);
        runs_systemd("newest", &[]);
    }
}

/// Somebody logs in at a terminal besides the console, and again after they have left; the console has another one.
fn has_ttys(init: &str, tty: u16, is_named: bool, prepare: impl Fn(&std::path::Path)) {
    case_with(&NEEDS, |sb| {
        let (d, name) = define(sb, init, &["--ttys", "2"], &[]);
        prepare(&d.folder(&name).join("own/upper"));
        d.call(&["start", &name]).ok();
        let number = tty.to_string();
        for _ in 0..2 {
            let mut at_tty = AtConsole::join_with(&d, &name, &["--tty", &number]);
            // A getty that has asked before nobody was there asks again.
            at_tty.type_in("", "login:");
            at_tty.log_in();
            let own = if is_named { format!("/dev/tty{tty}") } else { format!("/dev/pts/{tty}") };
            at_tty.type_in("tty; echo sum=$((40+2))", "sum=42");
            assert!(at_tty.seen().contains(&own), "{:?}", at_tty.seen());
            at_tty.type_in("exit", "login:");
        }
        assert!(!d.log(&name).contains("sum=42"), "the console has what the other terminal shows");
        d.call(&["console", &name, "--tty", "3"]).fails_saying("has no terminal 3");
        stop(&d, &name);
        d.call(&["destroy", &name]).ok();
    });
}

#[test]
fn systemd_has_gettys_on_more_terminals() {
    has_ttys("systemd", 2, false, |_| {});
}

#[test]
fn sysvinit_has_gettys_on_more_terminals() {
    has_ttys("sysvinit", 1, true, |_| {});
}

#[test]
fn busybox_has_gettys_on_more_terminals() {
    has_ttys("busybox", 2, true, |upper| {
        fs::create_dir_all(upper.join("etc")).expect("make etc");
        let table = "::respawn:-/bin/sh\ntty2::respawn:/bin/busybox getty -L tty2 38400 vt100\n";
        fs::write(upper.join("etc/inittab"), table).expect("write");
    });
}

#[test]
fn systemd_leads_a_life() {
    leads_a_life("systemd", &[], AtConsole::log_in);
}

#[test]
fn sysvinit_leads_a_life() {
    leads_a_life("sysvinit", &[], AtConsole::log_in);
}

#[test]
fn sysvinit_without_a_user_namespace_leads_a_life() {
    leads_a_life("sysvinit", &["--privileged"], AtConsole::log_in);
}

#[test]
fn openrc_under_sysvinit_leads_a_life() {
    leads_a_life("openrc", &[], AtConsole::log_in);
}

#[test]
fn busybox_leads_a_life() {
    leads_a_life("busybox", &[], |console| console.type_in("", "#"));
}

/// Boots and stops, twice; it has no console of its own in Debian's packages.
fn boots_and_stops(init: &str, command: &[&str], is_up: &str) {
    case_with(&NEEDS, |sb| {
        let (d, name) = define(sb, init, &[], command);
        for _ in 0..2 {
            d.call(&["start", &name]).ok();
            let up = || sb.exec_with(&name, &[], &["sh", "-c", is_up]).code == 0;
            assert!(within(Duration::from_secs(60), up), "it is not up: {}", d.call(&["logs", &name]).stdout);
            stop(&d, &name);
        }
        d.call(&["destroy", &name]).ok();
    });
}

#[test]
fn openrc_init_leads_a_short_life() {
    boots_and_stops("openrc", &["/sbin/openrc-init"], "test -p /run/openrc/init.ctl && rc-status -r | grep default");
}

#[test]
fn runit_leads_a_short_life() {
    boots_and_stops("runit", &[], "pidof runsvdir || grep -l runsvdir /proc/[0-9]*/comm");
}

#[test]
fn s6_leads_a_short_life() {
    boots_and_stops("s6", &[], "s6-svok /run/service/shell");
}

/// Everything is up, and nothing has failed.
fn runs_systemd(root: &str, options: &[&str]) {
    case_with(&NEEDS, |sb| {
        let (d, name) = define(sb, root, options, &[]);
        d.call(&["start", &name]).ok();
        let mut console = AtConsole::join(&d, &name);
        console.log_in();
        let state = sb.exec_with(&name, &[], &["systemctl", "is-system-running", "--wait"]);
        let failed = sb.exec_sh(&name, "systemctl --failed --plain --no-legend").ok();
        assert_eq!((state.stdout.trim(), failed.as_str()), ("running", ""), "{}", console.seen());
        let definition = d.definition(&name).to_string();
        let id = sb.exec_sh(&name, "cat /etc/machine-id").ok();
        assert!(id.len() == 32 && definition.contains(&id), "{id}");
        assert_eq!(sb.exec_sh(&name, "tr '\\0' '\\n' </proc/1/environ | grep ^container=").ok(), "container=lxc");
        assert_eq!(sb.exec_sh(&name, "cat /run/host/container-manager").ok(), "skep");
        // It begins again.
        let again = d.prepare(&["restart", "--time", &patience().to_string(), &name]);
        again.deadline(Duration::from_secs(90)).run().ok();
        eventually("it is up again", || {
            sb.exec_with(&name, &[], &["systemctl", "is-system-running"]).stdout.trim() == "running"
        });
        assert_eq!(sb.exec_sh(&name, "cat /etc/machine-id").ok(), id);
        stop(&d, &name);
    });
}

#[test]
fn systemd_runs_with_no_failed_unit_in_a_user_namespace() {
    runs_systemd("systemd", &[]);
}

#[test]
fn systemd_runs_with_no_failed_unit_without_a_user_namespace() {
    runs_systemd("systemd", &["--privileged"]);
}

#[test]
fn each_system_has_ids_and_a_machine_id_of_its_own() {
    case_with(&NEEDS, |sb| {
        let (d, first) = define(sb, "busybox", &["--memory", "64M"], &[]);
        let copy = d.name("copy");
        d.call(&["copy", &first, &copy]).ok();
        let (one, other) = (d.definition(&first), d.definition(&copy));
        assert_ne!(one["system"]["machine_id"], other["system"]["machine_id"]);
        assert_ne!(one["ids"], other["ids"]);
        d.call(&["start", &first, &copy]).ok();
        for (name, definition) in [(&first, &one), (&copy, &other)] {
            let pid = sb.state(name)["pid"].to_string();
            let owner = fs::metadata(format!("/proc/{pid}")).expect("a process").uid();
            assert_eq!(definition["ids"][0], owner);
            assert_eq!(sb.exec_sh(name, "cat /etc/machine-id").ok(), definition["system"]["machine_id"]);
        }
        // A limit is the host's to lift.
        let lift = "for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do \
                    test ! -e $f || { echo 1073741824 > $f && echo lifted; }; done; true";
        assert!(!sb.exec_sh(&first, lift).ok().contains("lifted"));
        sb.cgroup_is("memory", &first, "memory.limit_in_bytes", &(64 << 20).to_string());
        d.call(&["stop", &first, &copy]).ok();
    });
}

/// Root inside is root of the machine, and writes to every file of a v1 group that it sees.
#[test]
fn limits_hold_root_back_without_a_user_namespace() {
    case_with(&[Need::Skep, Need::Systems, Need::V1("memory"), Need::V1("devices")], |sb| {
        let options = ["--privileged", "--memory", "64M", "--pids", "40"];
        let (d, name) = define(sb, "busybox", &options, &[]);
        d.call(&["start", &name]).ok();
        // What it raises are groups of its own, by the mounts that are there and by new ones.
        let raise = "cd /tmp; mkdir memory devices pids
            for name in memory devices pids; do mount -t cgroup -o $name $name /tmp/$name; done
            for top in /sys/fs/cgroup /tmp; do
                echo -1 >$top/memory/memory.limit_in_bytes; echo -1 >$top/memory/memory.memsw.limit_in_bytes
                echo max >$top/pids/pids.max; echo a >$top/devices/devices.allow
            done 2>/dev/null
            find /sys/fs/cgroup /tmp -name guest";
        assert_eq!(sb.exec_sh(&name, raise).ok(), "");
        sb.cgroup_is("memory", &name, "memory.limit_in_bytes", &(64 << 20).to_string());
        sb.cgroup_is("pids", &name, "pids.max", "40");
        let fill = sb.exec_sh(&name, "busybox dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo ended $?");
        assert_eq!(fill.stdout.trim(), "ended 137");
        let forks = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done 2>&1 | grep -c fork || :";
        assert_ne!(sb.exec_sh(&name, forks).ok(), "0");
        // Writing to the log of the kernel takes no capability, but a rule.
        let log = "mknod /kmsg c 1 11; { : >/kmsg; } 2>&1 | grep -o 'not permitted'";
        assert_eq!(sb.exec_sh(&name, log).ok(), "not permitted");
        // Changes from outside count for what is in there.
        sb.call(&["update", "--memory", "128M", &name]).run().ok();
        sb.cgroup_is("memory", &name, "memory.limit_in_bytes", &(128 << 20).to_string());
        let fill = sb.exec_sh(&name, "busybox dd if=/dev/zero of=/dev/null bs=80M count=1 2>/dev/null; echo ended $?");
        assert_eq!(fill.stdout.trim(), "ended 0");
        d.call(&["freeze", &name]).ok();
        assert_eq!(d.listed(&name)["state"], "paused");
        d.call(&["unfreeze", &name]).ok();
        stop(&d, &name);
    });
}

#[test]
fn what_an_init_does_not_follow_ends_it_all_the_same() {
    case_with(&NEEDS, |sb| {
        // A program that is no init, and ignores what it is asked.
        let script = "trap '' TERM INT USR1 USR2; while :; do sleep 1; done";
        let (d, name) = define(sb, "busybox", &[], &["/bin/sh", "-c", script]);
        d.call(&["start", &name]).ok();
        let begin = Instant::now();
        d.call(&["stop", "--time", "2", &name]).ok();
        assert!(begin.elapsed() >= Duration::from_secs(2));
        assert_eq!(d.listed(&name)["state"], "stopped");
    });
}

#[test]
fn a_small_first_process_reaps_and_passes_signals_on() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("small");
        let script = "echo started; trap 'echo asked; exit 0' TERM; (sleep 0.1 &) ; while :; do sleep 0.1; done";
        d.create(&name, "host", &["--with-init"], &["sh", "-c", script]).ok();
        d.call(&["start", &name]).ok();
        eventually("it has started", || d.log(&name) == "started\n");
        let first = sb.exec_sh(&name, "cat /proc/1/comm; grep -c ' /dev/.skep-init ro,' /proc/self/mountinfo").ok();
        assert_eq!(first, ".skep-init\n1");
        eventually("nobody is left unreaped", || !sb.exec_sh(&name, "cat /proc/[0-9]*/stat").stdout.contains(") Z "));
        d.call(&["stop", &name]).ok();
        assert_eq!(d.log(&name), "started\nasked\n");
    });
}

#[test]
fn options_of_a_system_belong_together() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (name, base) = (d.name("bad"), d.base());
        let refused = |options: &[&str], said: &str| {
            d.create_plain(&name, text(&base), options).fails_saying(said);
        };
        refused(&["--privileged"], "--init");
        refused(&["--init", "--privileged", "--ids", "300000:65536"], "cannot be used with");
        refused(&["--init", "--with-init"], "cannot be used with");
    });
}

/// What the kernel makes of reboot(2) in a pid namespace is what tells a reboot from a halt and from an exit.
#[test]
fn a_reboot_is_told_from_a_halt_and_an_exit() {
    case_with(&[Need::Skep], |sb| {
        use runtime_spec::monitor::{End, Reboot};
        let (reboot, halt) = (Some(Reboot::Rebooted), Some(Reboot::Halted));
        for (command, expected) in [("reboot -f", reboot), ("poweroff -f", halt), ("halt -f", halt), ("exit 7", None)] {
            let script =
                if command.starts_with("exit") { command.to_owned() } else { format!("exec busybox {command}") };
            let bundle = sb.bundle().args(&["sh", "-c", &script]).capabilities(&["CAP_SYS_BOOT"]);
            let code = sb.run(&bundle).code;
            // The shell's number of a signal.
            let end = if code > 128 { End::Signal(code - 128) } else { End::Code(code) };
            assert_eq!(end.parse_reboot(), expected, "{command}");
        }
    });
}
