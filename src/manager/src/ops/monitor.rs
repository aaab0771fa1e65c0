//! `monitor`: changes of states as they happen.
//!
//! Nobody is asked again and again. Every command that changes a container holds its lock, a file that is closed at the end;
//! a process that ends makes its descriptor readable; the group of a frozen container has a file that is written.
//!
//! ```text
//! locks (inotify), first processes (pidfd), freezers (inotify) ──► look at all states ──► print what differs
//!         ▲                                                              │
//!         └─────────────────────── watch what is new, look again ◄───────┘
//! ```

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use runtime_spec::clock;
use serde::Serialize;
use sys::regex::Regex;
use sys::signal::SIGPIPE;
use sys::watch::Modified;

use crate::args_live::MonitorArgs;
use crate::cgroup_file::Groups;
use crate::definition::Definition;
use crate::output;
use crate::places::make_private_dir;
use crate::run::Manager;
use crate::runs::{Last, Run, state_word};

/// Files of a group that are written when it is frozen or thawed, in v1 and v2.
const FREEZERS: [&str; 3] = ["freezer.state", "cgroup.freeze", "cgroup.events"];

/// One change, as `--json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Change<'a> {
    /// When it was seen, RFC 3339.
    time: String,
    name: &'a str,
    /// As in `ls`, or `destroyed`.
    state: &'a str,
    /// What it was before; null of one that is new, and of the first states.
    before: Option<&'a str>,
    /// Whether it is one of the first states, and no change.
    initial: bool,
    /// Its first process as the host numbers it; null when it has none.
    pid: Option<u32>,
    /// How its run ended, where it has just ended and that is known already.
    last: Option<Last>,
}

/// A container at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: &'static str,
    pid: Option<u32>,
    /// The run that is under way.
    run: Option<String>,
}

/// Prints changes until a signal asks it to end, or nobody reads any more.
///
/// # Errors
/// A name makes no sense; what the runtime or the kernel says.
pub fn monitor(manager: &Manager, args: &MonitorArgs) -> Result<()> {
    let patterns = args.names.iter().map(|name| pattern(name, args.regex)).collect::<Result<Vec<_>>>()?;
    let locks = manager.places.data.join("locks");
    make_private_dir(&locks)?;
    let signals = sys::signal::take_all()?;
    let mut watches = Watches::new(locks.to_str().context("the data folder's name is no text")?)?;
    let is_wanted = |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name));
    let mut known = look(manager, &is_wanted)?;
    if args.initial {
        for (name, seen) in &known {
            if !print(manager, args.json, true, (name, None, Some(seen)))? {
                return Ok(());
            }
        }
    }
    loop {
        // What is new may have changed before it was watched.
        while watches.follow(manager, &known)? {
            let Some(now) = tell(manager, args.json, known, &is_wanted)? else { return Ok(()) };
            known = now;
        }
        let mut fds = vec![signals.as_fd(), watches.files.as_fd()];
        fds.extend(watches.processes.values().map(AsFd::as_fd));
        let ready = sys::process::poll_readable(&fds, None)?;
        if ready[0].readable {
            let signal = sys::signal::next(signals.as_fd())?;
            if sys::signal::asks_to_end(signal) || signal == SIGPIPE {
                return Ok(());
            }
        }
        if ready[1..].iter().any(|ready| ready.readable) {
            watches.files.drain()?;
            watches.forget_ended()?;
            let Some(now) = tell(manager, args.json, known, &is_wanted)? else { return Ok(()) };
            known = now;
        }
    }
}

/// A name with `*` and `?`, or a regular expression.
fn pattern(text: &str, is_regex: bool) -> Result<Regex> {
    let pattern = if is_regex { text.to_owned() } else { render_glob(text) };
    Regex::new(&pattern).with_context(|| format!("{text:?} is no regular expression"))
}

fn render_glob(text: &str) -> String {
    let part = |c: char| match c {
        '*' => ".*".to_owned(),
        '?' => ".".to_owned(),
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') => c.to_string(),
        c => format!("\\{c}"),
    };
    format!("^{}$", text.chars().map(part).collect::<String>())
}

/// All that is waited for.
struct Watches {
    files: Modified,
    /// First processes by the names of their containers and their numbers.
    processes: BTreeMap<(String, u32), OwnedFd>,
}

impl Watches {
    fn new(locks: &str) -> Result<Watches> {
        let files = Modified::watch(&[])?;
        files.add_closed_in(locks)?;
        Ok(Watches { files, processes: BTreeMap::new() })
    }

    /// Watches what runs. Whether there was something that was not watched before.
    fn follow(&mut self, manager: &Manager, known: &BTreeMap<String, Seen>) -> Result<bool> {
        let is_known = |name: &String, pid: &u32| known.get(name).is_some_and(|seen| seen.pid == Some(*pid));
        self.processes.retain(|(name, pid), _| is_known(name, pid));
        let mut any = false;
        for (name, seen) in known {
            let Some(pid) = seen.pid.filter(|pid| !self.processes.contains_key(&(name.clone(), *pid))) else {
                continue;
            };
            any = true;
            match sys::process::pidfd_open(i32::try_from(pid)?) {
                Err(error) if error.is(sys::Errno::SRCH) => continue,
                other => drop(self.processes.insert((name.clone(), pid), other?)),
            }
            // It has ended meanwhile, or has no such group.
            let Ok(groups) = Groups::read(&manager.places, name, pid) else { continue };
            for file in FREEZERS.iter().filter_map(|file| groups.find(file)) {
                match self.files.add(&file.path.to_string_lossy()) {
                    Err(error) if error.is(sys::Errno::NOENT) => {}
                    other => other?,
                }
            }
        }
        Ok(any)
    }

    /// A process that has ended says so for ever: what comes of it is told by the lock of who takes its container back.
    fn forget_ended(&mut self) -> Result<()> {
        let fds: Vec<_> = self.processes.values().map(AsFd::as_fd).collect();
        let ended = if fds.is_empty() { Vec::new() } else { sys::process::poll_readable(&fds, Some(0))? };
        let mut ended = ended.into_iter().map(|ready| ready.readable);
        self.processes.retain(|_, _| !ended.next().unwrap_or(false));
        Ok(())
    }
}

fn look(manager: &Manager, is_wanted: &dyn Fn(&str) -> bool) -> Result<BTreeMap<String, Seen>> {
    let states = manager.runtime.list()?;
    let mut all = BTreeMap::new();
    for name in Definition::names(&manager.places)?.into_iter().filter(|name| is_wanted(name)) {
        let alive = states.iter().find(|state| state.id == name && state.status.is_alive());
        let run = Run::read(&manager.places, &name)?;
        let pid = alive.and_then(|state| state.pid);
        all.insert(name, Seen { state: state_word(alive, run.as_ref()), pid, run: run.map(|run| run.id) });
    }
    Ok(all)
}

/// Looks, and prints what has changed since the last look; `None` where nobody reads any more.
fn tell(
    manager: &Manager,
    json: bool,
    known: BTreeMap<String, Seen>,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Option<BTreeMap<String, Seen>>> {
    let now = look(manager, is_wanted)?;
    for (name, seen, next) in plan_changes(&known, &now) {
        if !print(manager, json, false, (&name, seen.as_ref(), next.as_ref()))? {
            return Ok(None);
        }
    }
    Ok(Some(now))
}

/// A container, what it was, and what it is.
type Step = (String, Option<Seen>, Option<Seen>);

/// What has happened between two looks. One that runs with another first process has stopped in between.
fn plan_changes(known: &BTreeMap<String, Seen>, now: &BTreeMap<String, Seen>) -> Vec<Step> {
    let gone = known.iter().filter(|(name, _)| !now.contains_key(*name));
    let mut steps: Vec<Step> = gone.map(|(name, seen)| (name.clone(), Some(seen.clone()), None)).collect();
    for (name, seen) in now {
        match known.get(name) {
            Some(before) if before.pid.is_some() && seen.pid.is_some() && before.pid != seen.pid => {
                let stopped = Seen { state: "stopped", pid: None, run: None };
                steps.push((name.clone(), Some(before.clone()), Some(stopped.clone())));
                steps.push((name.clone(), Some(stopped), Some(seen.clone())));
            }
            Some(before) if before.state == seen.state => {}
            before => steps.push((name.clone(), before.cloned(), Some(seen.clone()))),
        }
    }
    steps
}

/// Prints a change; whether somebody still reads.
fn print(
    manager: &Manager,
    json: bool,
    initial: bool,
    (name, before, now): (&str, Option<&Seen>, Option<&Seen>),
) -> Result<bool> {
    let state = now.map_or("destroyed", |seen| seen.state);
    let ended = before.filter(|before| before.pid.is_some() && now.is_some_and(|now| now.pid.is_none()));
    let last = match ended {
        // What is told as soon as it happens may not have been put down yet.
        Some(before) => Last::read(&manager.places, name)?.filter(|last| Some(&last.run) == before.run.as_ref()),
        None => None,
    };
    if json {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let change = Change {
            time: clock::render_seconds(since),
            name,
            state,
            before: before.map(|seen| seen.state),
            initial,
            pid: now.and_then(|seen| seen.pid),
            last,
        };
        return output::write_open(&(serde_json::to_string(&change).context("cannot render JSON")? + "\n"));
    }
    let how = last.map_or(String::new(), |last| format!(" ({})", last.render()));
    output::write_open(&format!("{name} {state}{how}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &'static str, pid: Option<u32>) -> Seen {
        Seen { state, pid, run: None }
    }

    #[test]
    fn a_restart_between_two_looks_is_two_changes() {
        let of = |seen: Seen| BTreeMap::from([("web1".to_owned(), seen)]);
        let states = |known: &BTreeMap<_, _>, now: &BTreeMap<_, _>| -> Vec<&'static str> {
            plan_changes(known, now).iter().map(|(_, _, now)| now.as_ref().map_or("destroyed", |s| s.state)).collect()
        };
        let (one, two) = (of(seen("running", Some(5))), of(seen("running", Some(6))));
        assert_eq!(states(&one, &two), ["stopped", "running"]);
        assert_eq!(states(&one, &one), [""; 0]);
        assert_eq!(states(&one, &of(seen("paused", Some(5)))), ["paused"]);
        assert_eq!(states(&BTreeMap::new(), &one), ["running"]);
        assert_eq!(states(&one, &BTreeMap::new()), ["destroyed"]);
    }

    #[test]
    fn globs_fit_whole_names() {
        let fits = |glob: &str, name: &str| pattern(glob, false).unwrap().is_match(name);
        assert!(fits("web*", "web1") && fits("w?b", "web") && fits("a.b", "a.b"));
        assert!(!fits("web", "web1") && !fits("a.b", "axb") && !fits("?", "ab"));
        assert!(pattern("(", true).is_err());
    }
}
