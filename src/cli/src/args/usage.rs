//! What can be wrong with a command line.

use super::command::Program;
use super::flags::Flag;
use super::verbs::{Count, Verb};

/// Why a command line cannot be understood. The texts are those that callers of runc know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// No such option.
    #[error("flag provided but not defined: -{name}{}", did_you_mean("--", .near.as_deref()))]
    NotDefined {
        /// As typed, without dashes.
        name: String,
        /// A known one that is spelled like it.
        near: Option<String>,
    },
    /// The command line ends where a value should be.
    #[error("flag needs an argument: --{0}")]
    NeedsArgument(&'static str),
    /// A value that an option or an operand does not take.
    #[error("invalid value {value:?} for {place}: {reason}")]
    Invalid {
        /// As typed.
        value: String,
        /// The option or the operand.
        place: String,
        /// What it takes.
        reason: String,
    },
    /// Too many or too few operands.
    #[error("{program}: \"{verb}\" requires {wanted} argument(s)")]
    Operands {
        /// The name that the program was called by.
        program: &'static str,
        /// The command.
        verb: &'static str,
        /// "exactly 1", "a minimum of 1", "a maximum of 2".
        wanted: String,
    },
    /// No such command.
    #[error("unknown command: No help topic for '{name}'{}", did_you_mean("", .near.as_deref()))]
    UnknownCommand {
        /// As typed.
        name: String,
        /// A known one that is spelled like it.
        near: Option<&'static str>,
    },
    /// An id of no letters.
    #[error("container id cannot be empty")]
    EmptyId,
    /// `exec` without a command.
    #[error("exec args cannot be empty: name a command or use --process")]
    NoCommand,
    /// An argument that is not text.
    #[error("argument {0} is not valid UTF-8")]
    NotText(usize),
}

impl UsageError {
    /// Whether the help of the command tells how to do it right.
    #[must_use]
    pub fn is_answered_by_help(&self) -> bool {
        use UsageError::{Invalid, NeedsArgument, NotDefined, Operands};
        matches!(self, NotDefined { .. } | NeedsArgument(_) | Invalid { .. } | Operands { .. })
    }

    /// A value that an option does not take.
    #[must_use]
    pub fn invalid(value: &str, flag: &Flag, reason: impl ToString) -> UsageError {
        UsageError::invalid_at(value, format!("flag -{}", flag.long), reason)
    }

    /// A value that does not fit where it stands.
    #[must_use]
    pub fn invalid_at(value: &str, place: impl Into<String>, reason: impl ToString) -> UsageError {
        UsageError::Invalid { value: value.to_owned(), place: place.into(), reason: reason.to_string() }
    }
}

fn did_you_mean(dashes: &str, near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean {dashes}{near}?)")).unwrap_or_default()
}

/// Compares the number of operands with what the command wants.
///
/// # Errors
/// [`UsageError::Operands`].
pub fn check_count(program: Program, verb: &'static Verb, given: usize) -> Result<(), UsageError> {
    let wanted = match verb.count {
        Count::Exactly(n) if given != n => format!("exactly {n}"),
        Count::AtLeast(n) | Count::Between(n, _) if given < n => format!("a minimum of {n}"),
        Count::Between(_, n) if given > n => format!("a maximum of {n}"),
        _ => return Ok(()),
    };
    Err(UsageError::Operands { program: program.name(), verb: verb.name, wanted })
}
