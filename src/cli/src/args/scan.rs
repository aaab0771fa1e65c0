//! Splits an argument vector into options and operands by the grammar of Go's flag packages, which runc's callers use.
//!
//! - `--name`, `-name` and, where there is one, `-n` are the same option.
//! - A value stands behind `=` or in the next argument, whatever that looks like (`--pids-limit -1`).
//! - An option without value is turned off by `=false`; `=true` is the same as nothing.
//! - `--` ends the options. A lone `-` and what begins with a dash and no letter (`-9`) are operands.

use super::flags::{Flag, HELP, Takes};
use super::suggest::nearest;
use super::usage::UsageError;

/// What an argument vector held.
#[derive(Debug, Default)]
pub struct Matches {
    /// Options in the order in which they stood.
    given: Vec<(&'static Flag, String)>,
    /// Help was asked for by its long name.
    long_help: bool,
    /// The rest, in order.
    pub operands: Vec<String>,
}

/// Where scanning stops and everything that remains becomes operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At the end or at `--`.
    Never,
    /// After that many operands; more than zero.
    After(usize),
    /// Before the first operand, which stays in the vector with all that follows.
    AtOperand,
}

/// Splits `args`, which does not hold the program's name.
///
/// # Errors
/// An option that no table has, or one without its value, or with a value that it does not take.
pub fn scan(
    args: &mut std::vec::IntoIter<String>,
    tables: &[&[&'static Flag]],
    stop: Stop,
    into: &mut Matches,
) -> Result<(), UsageError> {
    while let Some(next) = args.as_slice().first() {
        // First: a `--` behind the command of exec belongs to that command.
        if stop == Stop::After(into.operands.len()) {
            break;
        }
        if next == "--" {
            args.next();
            break;
        }
        let is_option = option_name(next).is_some();
        if !is_option && stop == Stop::AtOperand {
            return Ok(());
        }
        let Some(arg) = args.next() else { break };
        if is_option {
            let (flag, value) = read_option(&arg, args, tables)?;
            into.given.push((flag, value));
            into.long_help |= arg == "--help";
        } else {
            into.operands.push(arg);
        }
    }
    if stop != Stop::AtOperand {
        into.operands.extend(args);
    }
    Ok(())
}

/// The part behind the dashes where `arg` is an option.
fn option_name(arg: &str) -> Option<&str> {
    match arg.strip_prefix("--") {
        Some(name) => Some(name),
        None => arg.strip_prefix('-').filter(|name| name.starts_with(|c: char| c.is_alphabetic())),
    }
}

fn read_option(
    arg: &str,
    rest: &mut std::vec::IntoIter<String>,
    tables: &[&[&'static Flag]],
) -> Result<(&'static Flag, String), UsageError> {
    let body = option_name(arg).unwrap_or_default();
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    let flag = tables.iter().flat_map(|t| t.iter()).find(|f| f.is_called(name)).ok_or_else(|| unknown(name, tables))?;
    let value = match (flag.takes, value) {
        (Takes::Nothing, None | Some("")) => "true".to_owned(),
        (_, Some(value)) => value.to_owned(),
        (_, None) => rest.next().ok_or(UsageError::NeedsArgument(flag.long))?,
    };
    match flag.takes {
        Takes::Nothing if parse_bool(&value).is_none() => Err(UsageError::invalid(&value, flag, "want true or false")),
        _ => Ok((flag, value)),
    }
}

fn unknown(name: &str, tables: &[&[&'static Flag]]) -> UsageError {
    let known = tables.iter().flat_map(|t| t.iter()).filter(|f| !f.hidden).map(|f| f.long);
    UsageError::NotDefined { name: name.to_owned(), near: nearest(name, known).map(str::to_owned) }
}

/// The words that Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Matches {
    /// The last value of an option.
    #[must_use]
    pub fn last(&self, flag: &'static Flag) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| std::ptr::eq(*given, flag)).map(|(_, value)| value.as_str())
    }

    /// Position of the last time that an option was given, to tell which of two came later.
    #[must_use]
    pub fn position(&self, flag: &'static Flag) -> Option<usize> {
        self.given.iter().rposition(|(given, _)| std::ptr::eq(*given, flag))
    }

    /// The last value of an option as an owned text; an empty one counts as absent, as in runc.
    #[must_use]
    pub fn text(&self, flag: &'static Flag) -> Option<String> {
        self.last(flag).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// All values of an option, in order.
    #[must_use]
    pub fn all(&self, flag: &'static Flag) -> Vec<String> {
        let values = self.given.iter().filter(|(given, _)| std::ptr::eq(*given, flag));
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Whether an option without value is on; `None` where it was not given.
    #[must_use]
    pub fn switch(&self, flag: &'static Flag) -> Option<bool> {
        self.last(flag).and_then(parse_bool)
    }

    /// Whether an option without value is on.
    #[must_use]
    pub fn is_on(&self, flag: &'static Flag) -> bool {
        self.switch(flag) == Some(true)
    }

    /// Whether the long texts are wanted.
    #[must_use]
    pub fn wants_long_help(&self) -> bool {
        self.long_help
    }

    /// Whether help was asked for.
    #[must_use]
    pub fn wants_help(&self) -> bool {
        self.is_on(&HELP)
    }
}
