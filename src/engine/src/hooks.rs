//! Hooks: started with the state on standard input, nothing inherited, bounded in time, heard when they fail.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runtime_spec::model::Hook;
use runtime_spec::state::{State as Document, Status};

use crate::error::{Error, Result};
use crate::step::HookPoint;

/// How much of a hook's standard error is kept for the error, from its end.
const STDERR_KEPT: usize = 4096;

/// The container's state as hooks see it.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Everything but the pid and the status.
    pub document: Document,
    /// First process, as the runtime sees it.
    pub pid: Option<i32>,
}

impl State {
    /// The JSON for a hook's standard input.
    fn render(&self, point: HookPoint) -> String {
        let mut document = self.document.clone();
        document.pid = self.pid.and_then(|pid| u32::try_from(pid).ok());
        document.status = match point {
            HookPoint::Prestart | HookPoint::CreateRuntime | HookPoint::CreateContainer => Status::Creating,
            HookPoint::StartContainer => Status::Created,
            HookPoint::Poststart => Status::Running,
            HookPoint::Poststop => Status::Stopped,
        };
        serde_json::to_string(&document).expect("a state document has string keys alone")
    }
}

/// Runs one hook to its end.
///
/// `folder` is its working folder (`None` keeps the caller's); `watched` is a pidfd whose end ends the wait: the
/// container that the hook works for is gone then.
///
/// # Errors
/// [`Error::Hook`] with the end of what it wrote to standard error.
pub(crate) fn run(
    point: HookPoint,
    index: usize,
    hook: &Hook,
    state: &State,
    folder: Option<&str>,
    watched: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let fail = |reason: String| Error::Hook { point: point.name(), index, path: hook.path.clone(), reason };
    // A file, not a pipe: a hook need not read its state, and a pipe to one that does not would block or send SIGPIPE.
    let text = sys::memory::data_file("state", state.render(point).as_bytes())
        .map_err(|error| fail(format!("cannot be given the state: {error}")))?;
    let mut child = command(hook, folder)
        .stdin(Stdio::from(text))
        .spawn()
        .map_err(|error| fail(format!("cannot be started: {error}")))?;
    let stderr =
        wait(&mut child, hook.timeout_s, watched).map_err(|(reason, stderr)| fail(with_stderr(&reason, &stderr)))?;
    let status = child.wait().map_err(|error| fail(format!("cannot be waited for: {error}")))?;
    match (status.success(), status.signal()) {
        (true, _) => Ok(()),
        (false, Some(signal)) => Err(fail(with_stderr(&format!("killed by signal {signal}"), &stderr))),
        (false, None) => Err(fail(with_stderr(&format!("exit status {}", status.code().unwrap_or_default()), &stderr))),
    }
}

fn command(hook: &Hook, folder: Option<&str>) -> Command {
    let mut command = Command::new(&hook.path);
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    command.env_clear();
    for entry in &hook.env {
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Reads standard error until the hook ends. On a time-out, or when the container goes, the hook is killed.
fn wait(
    child: &mut Child,
    timeout_s: Option<u32>,
    watched: Option<BorrowedFd<'_>>,
) -> std::result::Result<Vec<u8>, (String, Vec<u8>)> {
    let mut kept = Vec::new();
    let failed = |error: sys::Error, kept: &[u8]| (error.to_string(), kept.to_vec());
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let pidfd = sys::process::pidfd_open(pid).map_err(|e| failed(e, &kept))?;
    let deadline = timeout_s.map(|s| Instant::now() + Duration::from_secs(u64::from(s)));
    let mut stderr = child.stderr.take();
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()).as_millis());
        let mut fds = vec![pidfd.as_fd()];
        fds.extend(watched);
        fds.extend(stderr.as_ref().map(AsFd::as_fd));
        let timeout = left.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
        let ready = sys::process::poll_readable(&fds, timeout).map_err(|e| failed(e, &kept))?;
        let timed_out =
            left == Some(0) || (deadline.is_some() && ready.iter().all(|r| *r == sys::process::Ready::default()));
        let abandoned = watched.is_some() && ready.get(1).is_some_and(|r| r.readable);
        let ended = ready.first().is_some_and(|r| r.readable);
        if stderr.is_some() && ready.last().is_some_and(|r| r.readable || r.hung_up) {
            let mut buffer = [0u8; 4096];
            let pipe = stderr.as_ref().map(AsFd::as_fd);
            match pipe.map_or(Ok(0), |pipe| sys::fs::read_some(pipe, &mut buffer)).map_err(|e| failed(e, &kept))? {
                0 => stderr = None,
                n => keep_end(&mut kept, &buffer[..n]),
            }
            continue;
        }
        if ended {
            return Ok(kept);
        }
        if timed_out || abandoned {
            child.kill().and_then(|()| child.wait()).map_err(|e| (e.to_string(), kept.clone()))?;
            let reason = match (timed_out, timeout_s) {
                (true, Some(seconds)) => format!("timed out after {seconds} s"),
                _ => "the container's process ended meanwhile".to_owned(),
            };
            return Err((reason, kept));
        }
    }
}

fn keep_end(kept: &mut Vec<u8>, new: &[u8]) {
    kept.extend_from_slice(new);
    if kept.len() > STDERR_KEPT {
        kept.drain(..kept.len() - STDERR_KEPT);
    }
}

fn with_stderr(reason: &str, stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    match text.trim() {
        "" => reason.to_owned(),
        text => format!("{reason}, stderr: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, timeout_s: Option<u32>) -> std::result::Result<(), String> {
        let hook = Hook {
            path: "/bin/sh".to_owned(),
            args: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            env: vec!["MARK=yes".to_owned()],
            timeout_s,
        };
        run(HookPoint::Prestart, 1, &hook, &state(), Some("/"), None).map_err(|error| error.to_string())
    }

    fn state() -> State {
        State {
            document: Document {
                oci_version: "1.3.0".to_owned(),
                id: "web1".to_owned(),
                pid: None,
                status: Status::Creating,
                bundle: "/b".to_owned(),
                rootfs: None,
                created: None,
                annotations: std::collections::BTreeMap::new(),
                owner: None,
                oom_kills: None,
                usage: None,
                process_start: None,
            },
            pid: Some(42),
        }
    }

    #[test]
    fn gets_state_and_only_its_own_environment() {
        assert_eq!(
            check("read s; case $s in *web1*42*|*42*web1*) ;; *) exit 9;; esac; test \"$MARK\" = yes", None),
            Ok(())
        );
        assert_eq!(check("test -z \"$HOME\" && test -z \"$CARGO\"", None), Ok(()));
    }

    #[test]
    fn a_hook_that_does_not_read_its_state_is_still_bounded_in_time() {
        let start = Instant::now();
        let hook = Hook {
            path: "/bin/sleep".to_owned(),
            args: vec!["sleep".to_owned(), "20".to_owned()],
            env: Vec::new(),
            timeout_s: Some(1),
        };
        let mut state = state();
        // More than a pipe holds.
        state.document.annotations.insert("long".to_owned(), "x".repeat(200_000));
        let error = run(HookPoint::Prestart, 0, &hook, &state, None, None).unwrap_err().to_string();
        assert!(error.contains("timed out after 1 s"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_failure_says_which_and_why() {
        assert_eq!(
            check("echo no such luck >&2; exit 3", None).unwrap_err(),
            "error running prestart hook #1: /bin/sh: exit status 3, stderr: no such luck"
        );
        assert_eq!(
            check("kill -9 $$", None).unwrap_err(),
            "error running prestart hook #1: /bin/sh: killed by signal 9"
        );
    }

    #[test]
    fn a_slow_hook_is_killed_even_when_it_writes() {
        let error = check("while :; do echo x >&2; sleep 0.2; done", Some(1)).unwrap_err();
        assert!(error.contains("timed out after 1 s"), "{error}");
    }

    #[test]
    fn a_hook_that_leaves_its_stderr_to_a_daemon_ends_when_it_ends() {
        let start = Instant::now();
        assert_eq!(check("sleep 5 & exit 0", None), Ok(()));
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}
