//! What can go wrong, in the words that callers of container runtimes look for.

use runtime_spec::Finding;
use runtime_spec::state::{ALREADY_THERE, NOT_THERE};

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. Each text names one thing; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id is taken.
    #[error("{ALREADY_THERE}")]
    Exists,
    /// The id has characters that no container id has.
    #[error("invalid container ID format: {0:?} (letters, digits and _ + - . are allowed, and it may not be . or ..)")]
    InvalidId(String),
    /// No such container.
    #[error("{NOT_THERE}")]
    NotFound,
    /// It has to run for this.
    #[error("container not running")]
    NotRunning,
    /// It has to be paused for this.
    #[error("container not paused")]
    NotPaused,
    /// It may not be paused for this.
    #[error("container paused")]
    Paused,
    /// Start of one that has ended.
    #[error("cannot start a container that has stopped")]
    StartStopped,
    /// Start of one that runs.
    #[error("cannot start an already running container")]
    StartRunning,
    /// Start of one that is still being made.
    #[error("cannot start a container that is still being created")]
    StartCreating,
    /// Start of one whose definition has no process.
    #[error("cannot start container: config.json has no `process`")]
    NoProcess,
    /// Exec into one that has ended.
    #[error("cannot exec in a stopped container")]
    ExecStopped,
    /// Exec into one that is frozen.
    #[error("cannot exec in a paused container (use --ignore-paused to override)")]
    ExecPaused,
    /// Deletion of one that lives.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    DeleteAlive {
        /// The container.
        id: String,
        /// What it does.
        status: &'static str,
    },
    /// Processes that outlive SIGKILL.
    #[error("container {id} still has processes after SIGKILL: {tasks}")]
    Unkillable {
        /// The container.
        id: String,
        /// The tasks with what they wait for.
        tasks: String,
    },
    /// The definition is not valid; all errors of it.
    #[error("invalid config.json: {}", findings_text(.0))]
    Invalid(Vec<Finding>),
    /// A file of the bundle that cannot be used.
    #[error("{what}")]
    Bundle {
        /// What was wanted of it.
        what: String,
        /// Why it failed.
        #[source]
        source: sys::Error,
    },
    /// Something that this build or this host cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// An argument of the caller that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A step of the plan failed.
    #[error("{step}")]
    Step {
        /// The step and where in the definition it comes from.
        step: String,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// The container's first process reported this; the chain from the outside in.
    #[error("{text}")]
    Child {
        /// The outermost text.
        text: String,
        /// The rest of the chain.
        #[source]
        source: Option<Box<Error>>,
    },
    /// The container's first process ended before it could say why.
    #[error("container process ended while {during}: {how}")]
    ChildDied {
        /// What it was doing.
        during: String,
        /// Exit code or signal, with the likely reason.
        how: String,
    },
    /// A hook failed.
    #[error("error running {point} hook #{index}: {path}: {reason}")]
    Hook {
        /// Hook point.
        point: &'static str,
        /// Position in the list, from 0.
        index: usize,
        /// The executable.
        path: String,
        /// Status or time-out, with the end of its standard error.
        reason: String,
    },
    /// newuidmap or newgidmap did not map the ids.
    #[error("{helper} did not map the ids: {reason}{}", lines_text(file, .lines))]
    IdMapHelper {
        /// Its path.
        helper: String,
        /// What it wrote to standard error, or how it ended.
        reason: String,
        /// Where the ranges of each user stand.
        file: &'static str,
        /// Lines there that would allow it.
        lines: Vec<String>,
    },
    /// CRIU could not do what it was asked for.
    #[error("criu failed: type {request} errno {errno}: {reason}{}", .log.as_ref().map(|path| format!(" (log: {path})")).unwrap_or_default())]
    Criu {
        /// What it was asked for, by CRIU's name.
        request: &'static str,
        /// An errno of the kernel's, or 0.
        errno: i32,
        /// The first errors of its log, or what it answered.
        reason: String,
        /// The log, where there is one with an error in it.
        log: Option<String>,
    },
    /// The state file does not say what it should.
    #[error("state of container {id}: {reason}")]
    State {
        /// The container.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A kernel call.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The service manager.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
    /// A network device.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// Several at once, of a clean-up that went on.
    #[error("{}", .0.iter().map(chain_text).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
}

impl Error {
    /// Names the step in which this happened.
    #[must_use]
    pub fn in_step(self, step: impl Into<String>) -> Error {
        Error::Step { step: step.into(), source: Box::new(self) }
    }

    /// One error of many: none is success, one is itself.
    ///
    /// # Errors
    /// The given ones.
    pub fn collect(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }

    /// The texts from the outside in.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut texts = vec![self.to_string()];
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        texts
    }

    /// Rebuilds what a child reported by [`Error::chain`].
    #[must_use]
    pub fn from_chain(texts: impl DoubleEndedIterator<Item = String>) -> Error {
        let mut source = None;
        for text in texts.rev() {
            source = Some(Box::new(Error::Child { text, source }));
        }
        match source {
            Some(error) => *error,
            None => Error::Child { text: "no reason given".to_owned(), source: None },
        }
    }

    /// The kernel's reason, if there is one at the end of the chain.
    #[must_use]
    pub fn errno(&self) -> Option<sys::Errno> {
        match self {
            Error::Sys(error) | Error::Bundle { source: error, .. } => Some(error.errno()),
            Error::Step { source, .. } => source.errno(),
            _ => None,
        }
    }
}

fn lines_text(file: &str, lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        lines => format!(" ({file} allows it with {})", lines.join(" and ")),
    }
}

fn chain_text(error: &Error) -> String {
    error.chain().join(": ")
}

fn findings_text(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{}: {}", f.pointer, f.message)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_survives_the_way_through_text() {
        let error = Error::from(sys::Error::new("fsopen(\"proc\")", sys::Errno::PERM)).in_step("mount /proc");
        let back = Error::from_chain(error.chain().into_iter());
        assert_eq!(back.chain(), ["mount /proc", "fsopen(\"proc\"): operation not permitted (EPERM)"]);
    }
}
