//! What can go wrong between systemd and us.

use std::fmt;
use std::time::Duration;

use crate::value::Value;
use crate::wire::WireError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why systemd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to systemd works.
    #[error("cannot reach systemd: {}", Tries(.0))]
    Unreachable(Vec<Try>),
    /// The connection broke.
    #[error("connection to systemd: {doing}")]
    Connection {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: sys::Error,
    },
    /// It ended the connection.
    #[error("systemd closed the connection while {doing}")]
    Closed {
        /// What was being done.
        doing: String,
    },
    /// It said nothing in time.
    #[error("systemd did not answer within {bound:?} ({doing})")]
    Silent {
        /// What was being done.
        doing: String,
        /// How long it was given.
        bound: Duration,
    },
    /// It sent what is no message.
    #[error("systemd sent what cannot be understood ({doing})")]
    Wire {
        /// What was being done.
        doing: String,
        /// What is wrong with it.
        #[source]
        source: WireError,
    },
    /// It did not take all of a message in time.
    #[error("systemd did not take the whole message within {bound:?} ({doing})")]
    Stuck {
        /// What was being done.
        doing: String,
        /// How long it was given.
        bound: Duration,
    },
    /// It does not let us in.
    #[error("systemd refuses the connection: {0:?}")]
    Rejected(String),
    /// It refused a call.
    #[error("systemd: {call}: {message} ({name})")]
    Refused {
        /// Method and unit.
        call: String,
        /// The error's name, such as `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// For people.
        message: String,
    },
    /// An answer of other types than documented.
    #[error("systemd: {call}: unexpected answer: want {want}, got {got}")]
    Answer {
        /// Method and unit or property.
        call: String,
        /// What is documented.
        want: &'static str,
        /// What came.
        got: String,
    },
    /// A job that did not end well, or not in time.
    #[error("systemd could not {what} unit {unit}: {outcome}; {state}")]
    Job {
        /// `start` or `stop`.
        what: &'static str,
        /// The unit.
        unit: String,
        /// The job's result, or how long was waited for it.
        outcome: String,
        /// What the unit is now.
        state: String,
    },
}

impl Error {
    /// Something else than text, or nothing, where there should be text.
    pub(crate) fn no_text(call: String, got: Option<&Value>) -> Error {
        // Its type alone: a value may be long.
        let got = got.map_or("nothing".to_owned(), |value| format!("a value of type {:?}", value.signature()));
        Error::Answer { call, want: "text", got }
    }

    /// The text and that of its source, where one line has to do.
    pub(crate) fn in_one_line(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// Whether systemd refused with this error of its own, such as `NoSuchUnit`.
    #[must_use]
    pub fn is(&self, short: &str) -> bool {
        match self {
            Error::Refused { name, .. } => name.strip_prefix("org.freedesktop.systemd1.") == Some(short),
            _ => false,
        }
    }
}

/// One address that did not work.
#[derive(Debug)]
pub struct Try {
    /// The address.
    pub address: String,
    /// Why not.
    pub reason: String,
}

struct Tries<'a>(&'a [Try]);

impl fmt::Display for Tries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no address of a bus is known");
        }
        for (index, Try { address, reason }) in self.0.iter().enumerate() {
            write!(f, "{}{address}: {reason}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
