//! Signals to all of a container's tasks, and a kill that does not give up before its bound.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::Serialize;
use sys::watch::Until;
use sys::{Errno, ProcFs};

use super::procs::{self, is_gone};
use super::{Freezer, Group, Member};
use crate::error::{Error, Result};

/// How long a kill tries by default. A task in an uninterruptible wait may take longer; nobody can hurry it.
pub const KILL_BOUND: Duration = Duration::from_secs(10);

const SIGKILL: i32 = 9;
/// Processes that are looked at together: each takes a descriptor, of which a process has 1,024 by default.
const BATCH: usize = 256;
/// How long one round waits for processes to end before it looks again for what has come meanwhile.
const ROUND: Duration = Duration::from_millis(50);

/// A task that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survivor {
    /// As the caller's pid namespace numbers it.
    pub pid: i32,
    /// Its name, as in `ps`.
    pub comm: String,
    /// State letter of `/proc/PID/stat`: `D` is an uninterruptible wait.
    pub state: char,
    /// The kernel function that it waits in, where the kernel tells.
    pub wchan: String,
    /// Who traces it. A tracer that asked for PTRACE_EVENT_EXIT can keep a killed task from going.
    pub tracer: Option<i32>,
}

impl Survivor {
    /// Whether it is neither stopped nor in the freezer.
    pub(super) fn is_running(&self) -> bool {
        !self.wchan.contains("refrigerator") && !matches!(self.state, 'T' | 't' | 'Z' | 'X')
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} in state {}", self.pid, self.comm, self.state)?;
        if !self.wchan.is_empty() {
            write!(f, " waiting in {}", self.wchan)?;
        }
        match self.tracer {
            Some(tracer) => write!(f, ", traced by {tracer}"),
            None => Ok(()),
        }
    }
}

impl Group {
    /// Sends a signal to every process of the container once, and returns how many there were.
    ///
    /// The container is frozen meanwhile, so that a process cannot fork away; a container that was frozen before stays so,
    /// except for SIGKILL, which only reaches a v1 task that runs.
    ///
    /// # Errors
    /// [`Error::Sys`]. That a process has ended by itself is no error.
    pub fn signal_all(&self, signal: i32, proc: &ProcFs) -> Result<usize> {
        if signal == SIGKILL {
            // Listed first: what is killed leaves the list.
            let (listed, unified) = (self.procs()?, self.unified_procs()?);
            if self.kill_unified()? {
                let strays: Vec<i32> = listed.iter().copied().filter(|pid| !unified.contains(pid)).collect();
                self.signal_each(&strays, signal)?;
                self.thaw_all_below()?;
                return Ok(listed.len().max(unified.len()));
            }
        }
        let before = self.freezer_state()?;
        let froze = before == Freezer::Thawed
            && match self.freeze(ROUND * 4, proc) {
                Ok(()) => true,
                // Without a freezer, or with tasks that cannot stop now, the signal still reaches all that are listed.
                Err(Error::NoGroup { .. } | Error::NotFrozen { .. }) => false,
                Err(error) => return Err(error),
            };
        let pids = self.procs();
        let sent = pids.and_then(|pids| self.signal_each(&pids, signal).map(|_| pids.len()));
        if signal == SIGKILL {
            self.thaw_all_below()?;
        }
        if froze {
            self.thaw()?;
        }
        sent
    }

    /// Kills everything in the container and waits until it is gone. Returns the tasks that would not go within `bound`.
    ///
    /// With `cgroup.kill` (5.14; the unified hierarchy, also beside v1 ones) forks cannot escape. On v1 alone, forks are
    /// turned off by `pids.max` for as long as it takes, or failing that by freezing. Each round signals what is listed,
    /// thaws what the container froze, and waits on the pidfds.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn kill_all(&self, bound: Duration, proc: &ProcFs) -> Result<Vec<Survivor>> {
        let deadline = Instant::now() + bound;
        let by_kernel = self.kill_unified()?;
        self.thaw_all_below()?;
        let forks = if by_kernel { None } else { self.forbid_forks()? };
        let outcome = self.kill_rounds(deadline, by_kernel, forks.is_some(), proc);
        if let Some((member, limit)) = forks {
            match member.write("pids.max", &limit) {
                Err(error) if is_gone(&error) => {}
                other => other?,
            }
        }
        outcome
    }

    fn kill_rounds(&self, deadline: Instant, by_kernel: bool, no_forks: bool, proc: &ProcFs) -> Result<Vec<Survivor>> {
        loop {
            let pids = self.all_procs()?;
            if pids.is_empty() {
                return Ok(Vec::new());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(survivors(&pids, proc));
            }
            // Frozen tasks of v1 take the signal when they are thawed.
            let frozen = !by_kernel && !no_forks && self.freeze_for_kill(proc)?;
            let pids = if frozen { self.all_procs()? } else { pids };
            let pidfds = self.signal_each(&pids, SIGKILL)?;
            self.thaw_all_below()?;
            if frozen {
                self.thaw()?;
            }
            wait_ended(pidfds, ROUND.min(left))?;
        }
    }

    fn freeze_for_kill(&self, proc: &ProcFs) -> Result<bool> {
        match self.freeze(ROUND, proc) {
            Ok(()) => Ok(true),
            Err(Error::NoGroup { .. } | Error::NotFrozen { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets the kernel kill all in the unified group, those that fork meanwhile included. False where it cannot.
    fn kill_unified(&self) -> Result<bool> {
        let Some(member) = self.unified_member() else { return Ok(false) };
        match member.write("cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            // A threaded group has no kill.
            Err(error) if error.is(Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets `pids.max` to 0 and returns what it was.
    fn forbid_forks(&self) -> Result<Option<(&Member, String)>> {
        let Some(member) = self.member("pids") else { return Ok(None) };
        let limit = match member.read("pids.max") {
            Err(error) if is_gone(&error) => return Ok(None),
            other => other?.trim().to_owned(),
        };
        match member.write("pids.max", "0") {
            Err(error) if is_gone(&error) => Ok(None),
            other => Ok(other.map(|()| Some((member, limit)))?),
        }
    }

    /// What either kind of hierarchy counts to the container.
    fn all_procs(&self) -> Result<Vec<i32>> {
        let pids: BTreeSet<i32> = self.procs()?.into_iter().chain(self.unified_procs()?).collect();
        Ok(pids.into_iter().collect())
    }

    fn unified_procs(&self) -> Result<Vec<i32>> {
        let Some(member) = self.unified_member() else { return Ok(Vec::new()) };
        Ok(procs::below(member.dir.as_fd())?)
    }

    /// Signals processes through pidfds and returns those of the first batch, to wait on.
    ///
    /// A pid that was listed may be another process by now. So the pidfd is opened, then the list is read again: what is
    /// listed both times and open in between is either that process, or an end whose pidfd signals nobody.
    fn signal_each(&self, pids: &[i32], signal: i32) -> Result<Vec<OwnedFd>> {
        let mut first = None;
        for batch in pids.chunks(BATCH) {
            let mut open = Vec::with_capacity(batch.len());
            for &pid in batch {
                match sys::process::pidfd_open(pid) {
                    Ok(pidfd) => open.push((pid, pidfd)),
                    // Ended; or EINVAL, a thread whose process has no leader any more.
                    Err(error) if error.is(Errno::SRCH) || error.is(Errno::INVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let still: BTreeSet<i32> = self.all_procs()?.into_iter().collect();
            open.retain(|(pid, _)| still.contains(pid));
            for (_, pidfd) in &open {
                match sys::process::pidfd_send_signal(pidfd.as_fd(), signal) {
                    Err(error) if error.is(Errno::SRCH) => {}
                    other => other?,
                }
            }
            first.get_or_insert_with(|| open.into_iter().map(|(_, pidfd)| pidfd).collect());
        }
        Ok(first.unwrap_or_default())
    }
}

/// Waits until all processes have ended or the time is up.
pub(super) fn wait_ended(mut pidfds: Vec<OwnedFd>, timeout: Duration) -> sys::Result<()> {
    let deadline = Instant::now() + timeout;
    while !pidfds.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let watched: Vec<(BorrowedFd<'_>, Until)> = pidfds.iter().map(|fd| (fd.as_fd(), Until::Readable)).collect();
        let ended = sys::watch::wait(&watched, left)?;
        if ended.is_empty() {
            return Ok(());
        }
        let mut index = 0;
        pidfds.retain(|_| {
            index += 1;
            !ended.contains(&(index - 1))
        });
    }
    Ok(())
}

/// Describes processes; those that have ended meanwhile are left out.
pub(super) fn survivors(pids: &[i32], proc: &ProcFs) -> Vec<Survivor> {
    let describe = |&pid: &i32| {
        let state = proc.status(pid).ok()?.state;
        let comm = proc.read(&format!("{pid}/comm")).ok()?.trim_end().to_owned();
        // Needs a capability and a kernel option; "0" is a task that does not wait.
        let wchan = proc.read(&format!("{pid}/wchan")).ok().filter(|wchan| wchan != "0").unwrap_or_default();
        let status = proc.read(&format!("{pid}/status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")?.trim().parse().ok());
        Some(Survivor { pid, comm, state, wchan, tracer: tracer.filter(|tracer| *tracer != 0) })
    };
    pids.iter().filter_map(describe).collect()
}
