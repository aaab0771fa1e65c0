//! What a container is told of itself by files that would tell of the machine: memory, processors, time, load.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{eventually, within};
use integration::requires::Need;
use integration::systems::services;
use integration::{Sandbox, case_with};

/// The processes that serve the files of this test's containers.
fn servers(sb: &Sandbox) -> Vec<String> {
    let read = |pid: &String| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let entries = fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| read(pid).starts_with("skep-view\0") && read(pid).contains(text(&sb.dir))).collect()
}

/// Mounts of such files that the host has.
fn mounts(sb: &Sandbox) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    let ours =
        |line: &&str| line.contains(" - fuse skep ") && line.contains("/own/view ") && line.contains(text(&sb.dir));
    mounts.lines().filter(ours).count()
}

fn system() -> PathBuf {
    services().expect("they are needed").join("postgres")
}

fn number(text: &str) -> f64 {
    text.trim().parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

fn sees_its_limits(options: &[&str]) {
    case_with(&[Need::Skep, Need::Services, Need::Cpus(2)], |sb| {
        let d = Defined::new(sb);
        let name = d.name("system");
        let options = [&["--init", "--memory", "128M", "--cpus", "1"], options].concat();
        d.create_plain(&name, text(&system()), &options).ok();
        d.call(&["start", &name]).ok();
        let ask = |script: &str| sb.exec_sh(&name, script).ok();
        eventually("it is up", || {
            sb.exec_with(&name, &[], &["systemctl", "is-system-running"]).stdout.trim() == "running"
        });
        assert_eq!(ask("free -k | awk '/^Mem/ { print $2 }'"), "131072");
        assert_eq!(ask("nproc; getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo"), "1\n1\n1");
        assert_eq!(ask("grep -c '^cpu[0-9]' /proc/stat; cat /sys/devices/system/cpu/online"), "1\n0");
        // What is used is seen, and what is limited anew.
        let before = number(&ask("free -k | awk '/^Mem/ { print $5 }'"));
        ask("dd if=/dev/zero of=/dev/shm/file bs=1M count=24 2>/dev/null");
        // The kernel brings the numbers of groups up to date every two seconds.
        let more = || number(&ask("free -k | awk '/^Mem/ { print $5 }'")) - before;
        assert!(within(Duration::from_secs(10), || (24_000.0..32_000.0).contains(&more())), "{before} and {}", more());
        d.call(&["config", "set", &name, "memory=192M"]).ok();
        assert_eq!(ask("top -bn1 | awk '/^MiB Mem/ { print $4 }'"), "192.0");
        // It began a moment ago, for all who ask: the file, the clock and the list of processes.
        let up = number(&ask("cut -d' ' -f1 /proc/uptime"));
        assert!(up < 600.0, "{up}");
        assert!(number(&ask("ps -o etimes= -p 1")) < 600.0);
        let began = ask("echo $(($(date +%s) - $(awk '/^btime/ { print $2 }' /proc/stat)))");
        assert!(number(&began) < 600.0, "{began}");
        // Two that want one processor: the load goes to two, as far as the time goes.
        ask("for i in 1 2; do timeout 12 sh -c 'while :; do :; done' & done; cat /proc/loadavg >/dev/null");
        let load = || number(&ask("cut -d' ' -f1 /proc/loadavg"));
        assert!(within(Duration::from_secs(30), || load() > 0.1), "{}", load());
        let busy = number(&ask("awk '/^cpu / { print $2 + $4 }' /proc/stat"));
        assert!(busy > 100.0, "{busy} hundredths of a second");
        // A user namespace inside still mounts a procfs of its own.
        if options.len() == 5 {
            assert_eq!(ask("unshare -Urpf --mount-proc sh -c 'cat /proc/1/comm'"), "sh");
        }
        assert_eq!((servers(sb).len(), mounts(sb)), (1, 0));
        d.call(&["stop", "--time", "60", &name]).ok();
        assert!(within(Duration::from_secs(10), || servers(sb).is_empty()));
    });
}

#[test]
fn a_system_sees_its_limits() {
    sees_its_limits(&[]);
}

#[test]
fn a_system_without_a_user_namespace_sees_its_limits() {
    sees_its_limits(&["--privileged"]);
}

#[test]
fn a_program_sees_its_limit_and_outlives_its_monitor() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (own, other) = (d.name("own"), d.name("other"));
        let base = d.base();
        let total = |name: &str| sb.exec_sh(name, "grep MemTotal /proc/meminfo | tr -dc 0-9").ok();
        d.create(&own, text(&base), &["--memory", "32M"], &["sleep", "1000"]).ok();
        d.create(&other, text(&base), &["--memory", "32M", "--no-view"], &["sleep", "1000"]).ok();
        d.call(&["start", &own, &other]).ok();
        assert_eq!(total(&own), "32768");
        assert!(number(&total(&other)) > 65_536.0);
        assert_eq!(d.call(&["config", "get", &other, "view"]).ok(), "false");
        // Many short reads are of one text.
        let parts = "dd if=/proc/meminfo bs=7 2>/dev/null | grep -c kB; grep -c kB /proc/meminfo";
        let counts = sb.exec_sh(&own, parts).ok();
        let (short, long) = counts.split_once('\n').expect("two lines");
        assert_eq!(short, long);
        // Also for those who have the kernel pass it on, by sendfile(2) and its like.
        assert_eq!(sb.exec_sh(&own, "busybox cat /proc/meminfo | grep -c kB").ok(), long);
        // Who reads slowly reads one text, however many others read meanwhile, and the limit changes.
        let slow = "exec 3</proc/meminfo; dd bs=20 count=1 <&3 2>/dev/null; cat /proc/meminfo >/dev/null; touch /ready; \
            while [ -e /ready ]; do sleep 0.05; done; dd bs=100 <&3 2>/dev/null";
        let reader = sb.exec_call(&own, &[], &["sh", "-c", slow]).spawn();
        eventually("it has begun", || sb.exec_sh(&own, "test -e /ready").code == 0);
        d.call(&["config", "set", &own, "memory=48M"]).ok();
        assert_eq!(total(&own), "49152");
        sb.exec_sh(&own, "rm /ready").ok();
        let text = reader.wait(Duration::from_secs(20)).ok();
        let kb = |name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default();
        assert!(kb("MemTotal:").contains(" 32768 kB"), "{text}");
        let first = text.lines().next().unwrap_or_default();
        assert!(first.len() == kb("MemFree:").len(), "no line is cut: {text}");
        d.call(&["config", "set", &own, "memory=32M"]).ok();
        for entry in fs::read_dir(d.folder(&own).join("own")).expect("read the folder").flatten() {
            if let Ok(pid) = fs::read_to_string(entry.path().join("monitor")) {
                let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a pid")).expect("a pid");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the monitor");
            }
        }
        assert_eq!(total(&own), "32768");
        d.call(&["stop", "--time", "0", &own, &other]).ok();
        assert!(within(Duration::from_secs(10), || servers(sb).is_empty()));
        assert_eq!(mounts(sb), 0);
    });
}
