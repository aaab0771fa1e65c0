//! What operators look at: `status`, `info`, `ls` and `doctor`.

use std::fs;

use integration::defined::{Defined, text};
use integration::host::{eventually, within};
use integration::requires::Need;
use integration::{Value, case_with, json};
use std::time::Duration;

/// Uses up its quota, asks for one process more than it may have, and waits.
const BUSY: &str = "echo begun; timeout 3 sh -c 'while :; do :; done'; (for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done); exec sleep 1000";

/// Limits against use, what they kept from it, stalls, addresses that nobody here gave, groups and last words.
#[test]
fn the_status_tells_what_limits_do_and_who_is_where() {
    case_with(&[Need::Skep], |sb| {
        let (d, name) = (Defined::new(sb), Defined::new(sb).name("a"));
        let parent = format!("/{}", sb.name);
        let options = ["--memory", "64M", "--cpus", "0.2", "--pids", "6", "--hostname", "other", "--autostart"];
        let link = ["--link", "veth:name=lan"];
        d.create(&name, text(&d.base()), &[&options[..], &link].concat(), &["sh", "-c", BUSY]).ok();
        let stopped = d.call(&["status", &name]).ok();
        assert!(stopped.contains("64.0 MiB of memory, 0.200 processors, 6 tasks"), "{stopped}");
        d.call(&["start", &name]).ok();
        // By hand, as a DHCP client would.
        sb.exec_with(
            &name,
            &["--cap", "CAP_NET_ADMIN"],
            &["busybox", "ip", "addr", "add", "192.0.2.77/24", "dev", "lan"],
        )
        .ok();
        let status = || d.call(&["status", &name, "--json"]).json();
        let refused = || status()["held"]["pids"].as_u64().is_some_and(|count| count > 0);
        assert!(within(Duration::from_secs(20), refused), "{}", status());
        let seen = status();
        assert!(seen["held"]["cpu"].as_u64().is_some_and(|ns| ns > 100_000_000), "{seen}");
        assert_eq!(seen["held"]["memory"], json!(0), "{seen}");
        assert_eq!((&seen["ipv4"], &d.listed(&name)["ipv4"]), (&json!(["192.0.2.77"]), &json!(["192.0.2.77"])));
        let links = seen["links"].as_array().expect("a list");
        let lan = links.iter().find(|link| link["name"] == "lan").expect("the link");
        assert!(lan["addresses"].as_array().expect("a list").contains(&json!("192.0.2.77/24")), "{lan}");
        assert_eq!(seen["cgroup"], json!(format!("{parent}/{name}")));
        assert!(seen["uptime"].is_u64() && seen["autostart"]["order"] == 0 && seen["disk"].is_null(), "{seen}");
        // Where the kernel counts stalls, and has a v2 hierarchy.
        let counted = fs::metadata("/proc/pressure/cpu").is_ok()
            && fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(" - cgroup2 ");
        assert_eq!(seen["stalls"]["cpu"]["some"]["total"].as_u64().is_some_and(|total| total > 0), counted, "{seen}");
        assert_eq!(seen["pressure"]["cpu"]["some"], seen["stalls"]["cpu"]["some"]["avg10"]);

        let table = d.call(&["status", &name]).ok();
        let has = |text: &str| assert!(table.contains(text), "{text:?} in {table}");
        ["limit 0.200, waited ", " of 64.0 MiB (", " of 6 (", "Hostname:", "192.0.2.77", "begun"]
            .iter()
            .for_each(|text| has(text));
        has(&format!("{parent}/{name}"));
        d.call(&["destroy", "-f", &name]).ok();
    });
}

/// Those of containers too: a definition that no start takes, a monitor that died, and nothing that starts them at boot.
#[test]
fn the_doctor_finds_containers_that_need_somebody() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (sound, odd) = (d.name("sound"), d.name("odd"));
        d.create(&sound, text(&d.base()), &["--start"], &["sleep", "1000"]).ok();
        d.create(&odd, text(&d.base()), &[], &["sleep", "1000"]).ok();
        let about = |name: &str| -> Option<Value> {
            let findings = d.call(&["doctor", "--json"]).json();
            let subject = format!("container {name}");
            findings.as_array().expect("a list").iter().find(|finding| finding["subject"] == subject).cloned()
        };
        assert_eq!((about(&sound), about(&odd)), (None, None));
        let mut definition = d.definition(&odd);
        definition["process"]["args"] = json!([]);
        d.write_definition(&odd, &definition);
        let told = about(&odd).expect("it is told");
        assert!(
            told["found"].as_str().is_some_and(|text| text.contains("process.args: there is nothing to run")),
            "{told}"
        );
        assert!(told["advice"].as_str().is_some_and(|text| text.contains(&format!("skep edit {odd}"))), "{told}");

        // The monitor and its spare, neither of which sees the other die.
        let watches = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"skep-monitor"))
                && words.next() == Some(sound.as_bytes())
        };
        let all = fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
        let both: Vec<i32> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(watches).collect();
        assert_eq!(both.len(), 2);
        for signal in [sys::signal::SIGSTOP, sys::signal::SIGKILL] {
            both.iter().for_each(|pid| sys::signal::kill(*pid, signal).expect("kill"));
        }
        eventually("it is told", || about(&sound).is_some_and(|told| told["found"] == "it runs without its monitor"));
        d.call(&["start", &sound]).ok();
        assert_eq!(about(&sound), None);
        d.call(&["destroy", "-f", &sound, &odd]).ok();
    });
}
