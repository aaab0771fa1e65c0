//! The process `criu swrk FD`: starting it, asking it, and telling why it failed.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use sys::Errno;

use super::Folders;
use super::folders::error_lines;
use super::rpc::{self, Features, Kind, Response, Version, parse_response};
use crate::error::{Error, Result};
use crate::gate;
use crate::options::CriuOptions;

/// The largest answer that is taken: a text, or a list of features.
const LIMIT: usize = 64 * 1024;

/// How much of its standard error is searched for an error, from the start.
const ERRORS_READ: usize = 4096;

/// A message of CRIU's.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What it says.
    pub response: Response,
    /// The descriptors that came along.
    pub fds: Vec<OwnedFd>,
}

/// One process of CRIU's that works for us alone.
#[derive(Debug)]
pub(crate) struct Service {
    socket: OwnedFd,
    pidfd: OwnedFd,
    child: Child,
    /// What it writes to its standard error before it has a log.
    errors: File,
}

impl Service {
    /// Starts CRIU, connected with nothing but the socket.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is none, and what the kernel says.
    pub(crate) fn start(options: &CriuOptions) -> Result<Service> {
        let program = program(options)?;
        let (socket, theirs) = sys::socket::pair()?;
        let errors = sys::memory::data_file("criu", b"")?;
        let number = theirs.as_raw_fd();
        sys::process::keep_on_exec(number)?;
        let child = Command::new(program)
            .args(["swrk", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(sys::process::dup(errors.as_fd())?))
            .spawn()
            .map_err(|error| Error::Unsupported(format!("{program} cannot be started: {error}")))?;
        drop(theirs);
        let pid = i32::try_from(child.id()).unwrap_or_default();
        Ok(Service { socket, pidfd: sys::process::pidfd_open(pid)?, child, errors: File::from(errors) })
    }

    /// Asks for the version and refuses one that is too old for anything.
    ///
    /// # Errors
    /// [`Error::Criu`], [`Error::Unsupported`].
    pub(crate) fn version(&self) -> Result<Version> {
        self.send(&rpc::request(Kind::Version, None, true))?;
        let version = self.expect(Kind::Version)?.version;
        check_version(version, super::OLDEST, "saving and restoring")?;
        Ok(version)
    }

    /// Asks which of some features there are.
    ///
    /// # Errors
    /// [`Error::Criu`].
    pub(crate) fn features(&self, wanted: Features) -> Result<Features> {
        self.send(&rpc::feature_request(wanted, true))?;
        Ok(self.expect(Kind::FeatureCheck)?.features)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<()> {
        send(self.socket.as_fd(), bytes)
    }

    /// The next message; `None` when CRIU has ended.
    ///
    /// # Errors
    /// What the kernel says, and bytes that are no message.
    pub(crate) fn receive(&self) -> Result<Option<Answer>> {
        receive(self.socket.as_fd(), self.pidfd.as_fd())
    }

    /// The answer to a question.
    fn expect(&self, kind: Kind) -> Result<Response> {
        match self.receive()? {
            Some(Answer { response, .. }) if response.success && response.kind == Some(kind) => Ok(response),
            other => Err(self.failure(kind, other.map(|answer| answer.response).as_ref(), None)),
        }
    }

    /// Why a request failed. Before CRIU has a log it writes to its standard error.
    pub(crate) fn failure(&self, kind: Kind, response: Option<&Response>, log: Option<(&Folders, &str)>) -> Error {
        let error = failure(kind, response, log);
        match error {
            Error::Criu { request, errno, reason, log: None } => {
                let mut written = [0; ERRORS_READ];
                let length = self.errors.read_at(&mut written, 0).unwrap_or_default();
                let reason = error_lines(&written[..length]).unwrap_or(reason);
                Error::Criu { request, errno, reason, log: None }
            }
            other => other,
        }
    }

    /// Ends the conversation and waits until CRIU is gone. Returns whether it ended as one that succeeded.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn close(self) -> Result<bool> {
        let Service { socket, mut child, .. } = self;
        drop(socket);
        let errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        child
            .wait()
            .map(|status| status.success())
            .map_err(|error| sys::Error::new("wait for criu", errno(error)).into())
    }
}

/// The program's path.
///
/// # Errors
/// [`Error::Unsupported`] where there is none.
pub(crate) fn program(options: &CriuOptions) -> Result<&str> {
    let missing = || Error::Unsupported("criu is not installed: no such program in PATH".to_owned());
    options.program.as_deref().ok_or_else(missing)
}

/// Refuses a version that cannot do what is asked for.
///
/// # Errors
/// [`Error::Unsupported`].
pub(crate) fn check_version(found: Version, least: Version, what: &str) -> Result<()> {
    if found < least {
        return Err(Error::Unsupported(format!("criu {found} is too old: {what} needs {least}")));
    }
    Ok(())
}

/// Sends a request, or an answer to a notification.
///
/// # Errors
/// What the kernel says.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    match sys::socket::send(socket, bytes, &[]) {
        // It has ended; the answer that does not come says more.
        Err(error) if error.is(Errno::PIPE) => Ok(()),
        other => Ok(other?),
    }
}

/// The next message of a CRIU that the pidfd stands for; `None` when it has ended.
///
/// # Errors
/// What the kernel says, and bytes that are no message.
pub(crate) fn receive(socket: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<Option<Answer>> {
    if !gate::await_word(socket, pidfd)? {
        return Ok(None);
    }
    let message = match sys::socket::receive(socket, LIMIT) {
        // It ended with something of ours unread.
        Err(error) if error.is(Errno::CONNRESET) => return Ok(None),
        other => other?,
    };
    if message.bytes.is_empty() {
        return Ok(None);
    }
    let response = parse_response(&message.bytes)
        .map_err(|error| sys::Error::new(format!("answer of criu: {error}"), Errno::PROTO))?;
    Ok(Some(Answer { response, fds: message.fds }))
}

/// Why a request failed: the errors of the log, else what the answer says.
pub(crate) fn failure(kind: Kind, response: Option<&Response>, log: Option<(&Folders, &str)>) -> Error {
    let line = log.and_then(|(folders, name)| folders.errors(name));
    let log = log.filter(|_| line.is_some()).map(|(folders, name)| folders.log_path(name));
    let said = match response {
        None => "it ended without an answer".to_owned(),
        Some(response) if response.message.is_empty() => "no reason given".to_owned(),
        Some(response) => response.message.clone(),
    };
    Error::Criu {
        request: kind.name(),
        errno: response.map_or(0, |response| response.errno),
        reason: line.unwrap_or(said),
        log,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_refused_with_what_is_needed() {
        let error = check_version(Version(3, 10, 0), super::super::EXTERNAL_NETWORK, "a joined network namespace");
        let expected = "criu 3.10.0 is too old: a joined network namespace needs 3.11.0";
        assert_eq!(error.unwrap_err().to_string(), expected);
        assert!(check_version(Version(3, 11, 0), super::super::EXTERNAL_NETWORK, "").is_ok());
    }

    #[test]
    fn a_failure_says_what_the_answer_says_where_there_is_no_log() {
        let response = Response { errno: 22, message: "no way".to_owned(), ..Response::default() };
        let error = failure(Kind::Dump, Some(&response), None);
        assert_eq!(error.to_string(), "criu failed: type DUMP errno 22: no way");
        let error = failure(Kind::Version, None, None);
        assert_eq!(error.to_string(), "criu failed: type VERSION errno 0: it ended without an answer");
    }
}
