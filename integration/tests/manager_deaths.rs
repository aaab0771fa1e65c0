//! Whatever of `skep` is killed at whatever moment: what was promised stays, every verb works, and nothing is left.
//!
//! `DEATHS_SECONDS` is for how many seconds (15), `DEATHS_SEED` repeats the order of a run that has failed; both processes and machine
//! take part in what happens, so it is the order that is repeated, not the outcome.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use integration::defined::{Defined, text};
use integration::host::{alive, eventually, within};
use integration::requires::Need;
use integration::{Sandbox, case_with};
use runtime_spec::state::NOT_THERE;

/// Random numbers by xorshift: no secret, only no pattern.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("small")
    }
}

/// Processes of `skep`'s own that work in a sandbox: all of them are given its folder.
fn own_processes(sb: &Sandbox) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default().to_owned();
        let program = String::from_utf8_lossy(&program).into_owned();
        program.rsplit('/').next().is_some_and(|name| name.starts_with("skep"))
            && String::from_utf8_lossy(&line).contains(text(&sb.dir))
    };
    let entries = fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}

/// What is known of the containers of a run: names, and the snapshots whose making was told to have succeeded.
#[derive(Default)]
struct Known {
    promised: BTreeMap<String, Vec<String>>,
    deaths: usize,
    verbs: BTreeMap<&'static str, (usize, usize)>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const VERBS: [&str; 9] = ["create", "start", "stop", "restart", "snapshot", "restore", "destroy", "copy", "start"];

/// Calls one verb and kills somebody meanwhile, or nobody.
fn step(sb: &Sandbox, d: &Defined<'_>, random: &mut Random, known: &mut Known, number: usize) {
    let verb = VERBS[random.below(VERBS.len())];
    let name = d.name(NAMES[random.below(NAMES.len())]);
    let other = d.name(NAMES[random.below(NAMES.len())]);
    let snapshot = format!("s{number}");
    let (base, parent) = (d.base(), format!("/{}", sb.name));
    let chosen = known.promised.get(&name).and_then(|all| all.last()).cloned().unwrap_or_default();
    let words: Vec<&str> = match verb {
        "create" => {
            let script = "echo run >> /runs; exec sleep 1000";
            let policy = ["--restart=no", "--restart=always"][random.below(2)];
            let mut words = vec!["create", &name, "--from", text(&base), "--cgroup-parent", &parent, policy];
            words.extend((random.below(2) == 0).then_some("--tty"));
            words.extend(["--", "sh", "-c", script]);
            words
        }
        "stop" | "restart" => vec![verb, "--time", "0", &name],
        "snapshot" => vec![verb, &name, &snapshot],
        "restore" => vec![verb, &name, &chosen],
        "destroy" => vec![verb, "--force", &name],
        "copy" => vec![verb, &name, &other],
        _ => vec![verb, &name],
    };
    let mut running = d.prepare(&words).deadline(Duration::from_secs(60)).spawn();
    std::thread::sleep(Duration::from_micros(random.below(45_000) as u64));
    let mut killed = Vec::new();
    match random.below(4) {
        0 => {
            running.kill();
            known.deaths += 1;
        }
        // Any of its helpers: the runtime before it has become the container, the monitor, the spare, what they run.
        1 | 2 => {
            let all = own_processes(sb);
            for _ in 0..=random.below(2) {
                if let Some(pid) = (!all.is_empty()).then(|| all[random.below(all.len())])
                    && sys::signal::kill(pid, sys::signal::SIGKILL).is_ok()
                {
                    known.deaths += 1;
                    killed.push(pid);
                }
            }
        }
        _ => {}
    }
    let ended = running.wait(Duration::from_secs(60));
    // What is dying is still said to run.
    eventually("who was killed has ended", || !killed.iter().any(|pid| alive(*pid)));
    let count = known.verbs.entry(verb).or_default();
    count.0 += 1;
    count.1 += usize::from(ended.code == 0);
    match verb {
        // Also when it was killed: it may have come that far.
        "destroy" => drop(known.promised.remove(&name)),
        "snapshot" if ended.code == 0 => known.promised.entry(name).or_default().push(snapshot),
        _ => {}
    }
}

/// Whether a container is entered and has begun, in a few seconds, unless it has ended.
fn is_entered(sb: &Sandbox, name: &str) -> bool {
    let mut has_ended = false;
    let is_entered = within(Duration::from_secs(20), || {
        let output = sb.exec_sh(name, "echo $((6 * 7)); tail -n 1 /runs");
        has_ended = output.stderr.contains("stopped container") || output.stderr.contains(NOT_THERE);
        has_ended || output.stdout.trim() == "42\nrun"
    });
    is_entered && !has_ended
}

/// Every container can be looked at, started, entered and stopped; snapshots that were promised are there.
fn check(sb: &Sandbox, d: &Defined<'_>, known: &Known) {
    let listed = d.call(&["ls", "--format", "json"]).json();
    for entry in listed.as_array().expect("a list") {
        let name = entry["name"].as_str().expect("a name");
        d.call(&["info", name]).ok();
        // A verb that was killed may have helpers that still do what it began: what is said to run may have been told to end.
        if entry["state"] != "running" || !is_entered(sb, name) {
            d.call(&["stop", "--time", "0", name]).ok();
            d.call(&["start", name]).ok();
            assert!(is_entered(sb, name), "{name} is {} after its start", d.listed(name)["state"]);
        }
        d.call(&["stop", "--time", "0", name]).ok();
        assert_eq!(d.listed(name)["state"], "stopped");
        let snapshots = d.call(&["snapshot", name, "--list", "-o", "json"]).json();
        let has = |wanted: &String| snapshots.as_array().expect("a list").iter().any(|one| one["name"] == *wanted);
        for promised in known.promised.get(name).into_iter().flatten() {
            assert!(has(promised), "{name} has lost its snapshot {promised}: {snapshots}");
        }
        if let Some(promised) = known.promised.get(name).and_then(|all| all.first()) {
            d.call(&["restore", name, promised]).ok();
            d.call(&["start", name]).ok();
            d.call(&["stop", "--time", "0", name]).ok();
        }
    }
}

/// After the removal of all containers nothing is there that was not before.
fn leaves_nothing(sb: &Sandbox, d: &Defined<'_>) {
    for name in NAMES {
        d.call(&["destroy", "--force", &d.name(name)]).ok();
    }
    assert!(within(Duration::from_secs(15), || own_processes(sb).is_empty()), "processes are left");
    let names = |folder: &str| -> Vec<String> {
        let Ok(entries) = fs::read_dir(d.data.join(folder)) else { return Vec::new() };
        entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    // Locks are no containers.
    assert_eq!(
        names("containers").iter().filter(|name| !name.starts_with('.')).count(),
        0,
        "{:?}",
        names("containers")
    );
    d.call(&["gc"]).ok();
    assert_eq!(names("changes").iter().filter(|name| !name.starts_with('.')).count(), 0, "{:?}", names("changes"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    assert!(!mounts.contains(text(&sb.dir)), "a mount is left");
    let states = fs::read_dir(&sb.root).into_iter().flatten().filter_map(Result::ok);
    assert_eq!(
        states.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count(),
        0,
        "states are left"
    );
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_promised() {
    case_with(&[Need::Skep], |sb| {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").subsec_nanos();
        let seed = number("DEATHS_SEED").unwrap_or_else(|| u64::from(clock)).max(1);
        let seconds = Duration::from_secs(number("DEATHS_SECONDS").unwrap_or(15));
        println!("DEATHS_SEED={seed}");
        let d = Defined::new(sb);
        let (mut random, mut known) = (Random(seed), Known::default());
        let begin = Instant::now();
        let mut steps = 0;
        // A slow machine gets more time to look at something, up to a bound.
        let has_seen =
            |known: &Known| known.deaths > 5 && known.verbs.values().filter(|count| count.1 > 0).count() >= 5;
        while begin.elapsed() < seconds || (!has_seen(&known) && begin.elapsed() < seconds * 8) {
            step(sb, &d, &mut random, &mut known, steps);
            steps += 1;
            if steps % 40 == 0 {
                check(sb, &d, &known);
            }
        }
        eventually("whoever was about to start again has", || {
            let listed = d.call(&["ls", "--format", "json"]).json();
            listed.as_array().expect("a list").iter().all(|entry| entry["state"] != "restarting")
        });
        check(sb, &d, &known);
        leaves_nothing(sb, &d);
        println!(
            "{steps} verbs, {} deaths; of each verb all and those that succeeded: {:?}",
            known.deaths, known.verbs
        );
        assert!(has_seen(&known), "it has looked at nothing: {:?}", known.verbs);
    });
}
