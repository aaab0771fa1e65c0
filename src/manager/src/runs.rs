//! One run of a container: what is on disk of the one that is under way, and of the last that ended.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::{End, Reboot, file};
use runtime_spec::signal::{Signal, signal_name};
use runtime_spec::state::{State, Status, Usage};
use serde::{Deserialize, Serialize};

use crate::changes::{names, random_id};
use crate::definition::Restart;
use crate::places::{CLOSED, Places, Readers, is_lost, now, remove_if_there, write_for_run};

/// The document of a run under way, in the closed folder.
const CURRENT: &str = "run.json";
/// What the folder of a run is called, before the run's own name.
const FOLDER: &str = "run-";
/// That of the last run that ended.
const LAST: &str = "last.json";

/// A run that has begun and that nobody has concluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What its folder is called after.
    pub id: String,
    /// When it began, seconds since 1970.
    pub started: u64,
    /// How often it was started again by itself since somebody asked for a start.
    #[serde(default)]
    pub restarts: u32,
    /// It has ended, and is to be started again at this time, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<u64>,
    /// Somebody has begun to stop it: whatever happens to that command, it is not started again.
    #[serde(default)]
    pub stopping: bool,
}

/// How a run ended. Names of fields are not changed, only added to: people read this document, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// The run's own name.
    #[serde(default)]
    pub run: String,
    /// When it began, seconds since 1970.
    pub started: u64,
    /// When its end was noticed, seconds since 1970.
    pub ended: u64,
    /// In a word.
    pub reason: Reason,
    /// The code that its first process exited with; null when a signal killed it or nobody knows.
    pub code: Option<i32>,
    /// The signal that killed its first process.
    pub signal: Option<i32>,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Processor time in nanoseconds; null where nobody counted.
    pub cpu: Option<u64>,
    /// Most bytes of memory at once; null where nobody counted.
    pub memory_peak: Option<u64>,
    /// How often it had been started again by itself.
    pub restarts: u32,
    /// What a whole system asked of the kernel; null where it asked nothing, and of a program.
    #[serde(default)]
    pub reboot: Option<Reboot>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Somebody stopped it.
    Stopped,
    /// It exited.
    Exited,
    /// A signal killed it.
    Signal,
    /// The kernel killed it, or something in it, for want of memory.
    Oom,
    /// Nobody was there to see it.
    Unknown,
}

impl Last {
    /// Puts together what the runtime and the monitor know.
    #[must_use]
    pub fn plan(run: &Run, end: End, oom_kills: u64, usage: Option<Usage>, stopped: bool, ended: u64) -> Last {
        let (code, signal) = match end {
            End::Code(code) => (Some(code), None),
            End::Signal(signal) => (None, Some(signal)),
            End::Unknown => (None, None),
        };
        let killed = signal == Some(9) || code == Some(137);
        let reason = match end {
            _ if stopped => Reason::Stopped,
            _ if killed && oom_kills > 0 => Reason::Oom,
            End::Code(_) => Reason::Exited,
            End::Signal(_) => Reason::Signal,
            End::Unknown => Reason::Unknown,
        };
        Last {
            run: run.id.clone(),
            started: run.started,
            ended,
            reason,
            code,
            signal,
            oom_kills,
            cpu: usage.map(|usage| usage.cpu),
            memory_peak: usage.map(|usage| usage.memory_peak).filter(|bytes| *bytes > 0),
            restarts: run.restarts,
            reboot: None,
        }
    }

    /// The same of a whole system: what ended it may be what it asked for.
    #[must_use]
    pub fn of_system(mut self, end: End) -> Last {
        self.reboot = end.parse_reboot();
        if self.reboot.is_some() && self.reason == Reason::Signal {
            self.reason = Reason::Exited;
        }
        self
    }

    /// For people: `exited with 3`, `killed by SIGTERM`, …
    #[must_use]
    pub fn render(&self) -> String {
        let how = match (self.code, self.signal) {
            _ if self.reboot == Some(Reboot::Rebooted) => "rebooted".to_owned(),
            _ if self.reboot == Some(Reboot::Halted) => "powered off".to_owned(),
            (Some(code), _) => format!("exited with {code}"),
            (None, Some(signal)) => match signal_name(Signal(signal)) {
                Some(name) => format!("killed by {name}"),
                None => format!("killed by signal {signal}"),
            },
            (None, None) => "ended, nobody saw how".to_owned(),
        };
        match self.reason {
            Reason::Stopped => format!("stopped, {how}"),
            Reason::Oom => format!("out of memory, {how}"),
            _ => how,
        }
    }
}

/// First pause before a container is started again.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A run of at least this length is a new beginning: the next pause is the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// After which pause a container that ended by itself is started again, and how many restarts that makes; `None` where it
/// stays as it is. The pause doubles each time.
#[must_use]
pub fn plan_restart(policy: Restart, end: End, lasted: Duration, restarts: u32) -> Option<(Duration, u32)> {
    let wanted = match policy {
        Restart::No => false,
        Restart::OnFailure => end != End::Code(0),
        Restart::Always => true,
    };
    if !wanted {
        return None;
    }
    let before = if lasted >= STEADY { 0 } else { restarts };
    let pause = PAUSE.saturating_mul(1 << before.min(20)).min(PAUSE_MAX);
    Some((pause, before + 1))
}

/// The same of a whole system: one that reboots is started again whatever the policy is, and one that was powered off has not
/// failed.
#[must_use]
pub fn plan_system_restart(policy: Restart, end: End, lasted: Duration, restarts: u32) -> Option<(Duration, u32)> {
    match end.parse_reboot() {
        Some(Reboot::Rebooted) => plan_restart(Restart::Always, end, lasted, restarts),
        Some(Reboot::Halted) => plan_restart(policy, End::Code(0), lasted, restarts),
        None => plan_restart(policy, end, lasted, restarts),
    }
}

/// The state of a container in a word, as lists have it, by what the runtime has of it while it is alive.
#[must_use]
pub fn state_word(alive: Option<&State>, run: Option<&Run>) -> &'static str {
    match alive {
        None if run.is_some_and(|run| run.again_at.is_some()) => "restarting",
        _ => alive.map_or(Status::Stopped, |state| state.status).name(),
    }
}

fn document(places: &Places, name: &str, file: &str) -> PathBuf {
    places.container(name).join(CLOSED).join(file)
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if is_lost(&bytes) {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display())).map(Some)
}

impl Run {
    /// A run that begins now.
    ///
    /// # Errors
    /// The kernel has no random numbers.
    pub fn new(restarts: u32) -> Result<Run> {
        Ok(Run { id: random_id()?, started: now(), restarts, again_at: None, stopping: false })
    }

    /// The run of a container that nobody has concluded.
    ///
    /// # Errors
    /// The document cannot be read.
    pub fn read(places: &Places, name: &str) -> Result<Option<Run>> {
        read(&document(places, name, CURRENT))
    }

    /// Writes the document, with the folder.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, places: &Places, name: &str) -> Result<()> {
        let folder = self.folder(places, name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", folder.display()));
            }
            _ => {}
        }
        write_for_run(&document(places, name, CURRENT), &serde_json::to_vec(self)?, Readers::Owner)
    }

    /// Forgets whatever run there is: the document, then the folders, also those that an interrupted command left without a
    /// document. A monitor that still has files of one open is not disturbed. The container's lock is to be held.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(places: &Places, name: &str) -> Result<()> {
        remove_if_there(&document(places, name, CURRENT))?;
        let closed = places.container(name).join(CLOSED);
        let folders = names(&closed)?.into_iter().filter(|folder| folder.starts_with(FOLDER));
        folders.map(|folder| closed.join(folder)).try_for_each(|folder| crate::ops::remove_tree(&folder))
    }

    /// Removes the folder alone, when another run has taken its place.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_folder(&self, places: &Places, name: &str) -> Result<()> {
        crate::ops::remove_tree(&self.folder(places, name))
    }

    /// Its folder, which has what the monitor works with.
    #[must_use]
    pub fn folder(&self, places: &Places, name: &str) -> PathBuf {
        places.container(name).join(CLOSED).join(format!("{FOLDER}{}", self.id))
    }

    /// How it ended, as the monitor wrote it; `None` where it has not, or not yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn end(&self, places: &Places, name: &str) -> Result<Option<End>> {
        let path = self.folder(places, name).join(file::END);
        match fs::read_to_string(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
            Ok(text) => match End::parse(&text) {
                Some(end) => Ok(Some(end)),
                None => bail!("{} makes no sense: {text:?}", path.display()),
            },
        }
    }
}

impl Last {
    /// How the last run of a container ended; `None` where it has had none.
    ///
    /// # Errors
    /// The document cannot be read.
    pub fn read(places: &Places, name: &str) -> Result<Option<Last>> {
        read(&document(places, name, LAST))
    }

    /// Writes the document.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, places: &Places, name: &str) -> Result<()> {
        write_for_run(&document(places, name, LAST), &serde_json::to_vec(self)?, Readers::Owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn the_policy_decides_and_the_pause_doubles() {
        let plan = |policy, end, restarts| plan_restart(policy, end, SHORT, restarts);
        assert_eq!(plan(Restart::No, End::Code(1), 0), None);
        assert_eq!(plan(Restart::OnFailure, End::Code(0), 0), None);
        for end in [End::Code(1), End::Signal(9), End::Unknown] {
            assert_eq!(plan(Restart::OnFailure, end, 0), Some((PAUSE, 1)));
        }
        assert_eq!(plan(Restart::Always, End::Code(0), 3), Some((PAUSE * 8, 4)));
        assert_eq!(plan(Restart::Always, End::Code(0), 4_000_000_000), Some((PAUSE_MAX, 4_000_000_001)));
        assert_eq!(plan_restart(Restart::Always, End::Code(0), STEADY, 9), Some((PAUSE, 1)));
    }

    #[test]
    fn a_reboot_is_followed_whatever_the_policy_is() {
        let plan = |policy, end| plan_system_restart(policy, end, SHORT, 0);
        assert_eq!(plan(Restart::No, End::Signal(1)), Some((PAUSE, 1)));
        assert_eq!(plan(Restart::No, End::Signal(2)), None);
        assert_eq!(plan(Restart::OnFailure, End::Signal(2)), None);
        assert_eq!(plan(Restart::OnFailure, End::Signal(9)), Some((PAUSE, 1)));
        assert_eq!(plan(Restart::Always, End::Signal(2)), Some((PAUSE, 1)));
    }

    #[test]
    fn a_system_powers_off_where_a_program_is_killed() {
        let run = Run { id: "x".to_owned(), started: 5, restarts: 0, again_at: None, stopping: false };
        let plan = |end, stopped| Last::plan(&run, end, 0, None, stopped, 9).of_system(end);
        assert_eq!(plan(End::Signal(2), true).render(), "stopped, powered off");
        assert_eq!(plan(End::Signal(2), false).reason, Reason::Exited);
        assert_eq!(plan(End::Signal(1), false).render(), "rebooted");
        assert_eq!(plan(End::Signal(9), false).render(), "killed by SIGKILL");
        assert_eq!(plan(End::Code(7), false).render(), "exited with 7");
    }

    #[test]
    fn no_folder_of_a_run_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().to_owned() };
        let own = places.container("web").join(CLOSED);
        fs::create_dir_all(own.join("upper")).unwrap();
        // Of a command that was killed before it wrote the document.
        fs::create_dir(own.join("run-left")).unwrap();
        Run::new(0).unwrap().write(&places, "web").unwrap();
        Run::forget(&places, "web").unwrap();
        assert_eq!(names(&own).unwrap(), ["upper"]);
        Run::forget(&places, "web").unwrap();
        Run::forget(&places, "gone").unwrap();
    }

    /// After a power cut nothing runs, and what was not on disk yet reads as zeros or as nothing.
    #[test]
    fn a_run_that_a_power_cut_took_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().to_owned() };
        fs::create_dir_all(places.container("web").join(CLOSED)).unwrap();
        Run::new(0).unwrap().write(&places, "web").unwrap();
        let path = document(&places, "web", CURRENT);
        for (content, is_none) in [(&b""[..], true), (&[0; 90], true), (b"{", false)] {
            fs::write(&path, content).unwrap();
            assert_eq!(Run::read(&places, "web").is_ok_and(|run| run.is_none()), is_none, "{content:?}");
        }
    }

    #[test]
    fn the_reason_says_who_ended_it() {
        let run = Run { id: "x".to_owned(), started: 5, restarts: 1, again_at: None, stopping: false };
        let plan = |end, kills, stopped| Last::plan(&run, end, kills, None, stopped, 9);
        let told = |end, kills, stopped| plan(end, kills, stopped).render();
        assert_eq!(told(End::Code(3), 0, false), "exited with 3");
        assert_eq!(told(End::Signal(9), 1, false), "out of memory, killed by SIGKILL");
        assert_eq!(told(End::Signal(9), 0, false), "killed by SIGKILL");
        // Something else was killed, and the first process went on to exit by itself.
        assert_eq!(plan(End::Code(0), 1, false).reason, Reason::Exited);
        assert_eq!(told(End::Signal(15), 0, true), "stopped, killed by SIGTERM");
        assert_eq!(told(End::Unknown, 0, false), "ended, nobody saw how");
    }
}
