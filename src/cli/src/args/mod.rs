//! The command line: one table of options and commands, and what is made from it.
//!
//! ```text
//! flags, verbs (tables) -> scan (argv -> options and operands) -> typed (-> Global, Command)
//!                       -> help (texts); man pages and completions are made from the same tables
//! ```
//!
//! Nothing here looks at the machine: the result depends on the argument vector alone.

pub mod command;
pub mod duration;
pub mod flags;
pub mod help;
pub mod pressure;
pub mod scan;
pub mod size;
pub mod suggest;
pub mod typed;
pub mod usage;
pub mod verbs;

pub use command::{Command, Global, Program};
pub use usage::UsageError;

use std::ffi::OsString;

use crate::manager::is_lxc_tool;
use command::HelpArgs;
use scan::{Matches, Stop, scan};
use verbs::{DEFINING, FIRST, GLOBAL, SVC, VERBS, Verb, is_managed};

/// What a command line asks for.
#[derive(Debug)]
pub struct Invocation {
    /// Options that hold for every command. Where the command line is wrong: those that were understood, so that the
    /// log still gets the message.
    pub global: Global,
    /// The word that names the command; empty where none does.
    pub verb: &'static str,
    /// The command, or what is wrong.
    pub command: Result<Command, Usage>,
}

/// A command line that cannot be understood.
#[derive(Debug)]
pub struct Usage {
    /// Why.
    pub error: UsageError,
    /// Whose help is of use; `None` is the program's.
    pub verb: Option<&'static Verb>,
}

/// Reads an argument vector, the program's name first.
#[must_use]
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut args = Vec::new();
    let mut not_text = None;
    for (index, arg) in argv.into_iter().enumerate() {
        args.push(arg.into_string().unwrap_or_else(|arg| {
            not_text.get_or_insert(index);
            arg.to_string_lossy().into_owned()
        }));
    }
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_default();
    let mut global = Global::new(Program::called(&called));
    if called.rsplit('/').next().is_some_and(is_lxc_tool) {
        return Invocation { global, verb: "", command: Ok(Command::Lxc) };
    }
    let mut verb = None;
    let command = read(&mut args, &mut global, &mut verb).and_then(|command| match not_text {
        Some(index) => Err(Usage { error: UsageError::NotText(index), verb: None }),
        None => Ok(command),
    });
    Invocation { global, verb: verb.map_or("", |verb| verb.name), command }
}

fn read(
    args: &mut std::vec::IntoIter<String>,
    global: &mut Global,
    found: &mut Option<&'static Verb>,
) -> Result<Command, Usage> {
    let mut m = Matches::default();
    let scanned = scan_all(args, global.program, &mut m, found);
    let verb = *found;
    // Even where the scan failed: what was understood may name the log.
    let read = typed::read_global(&m, global);
    let usage = |error| Usage { error, verb };
    match scanned.map_err(usage)? {
        Whose::Managers => return Ok(Command::Managed),
        Whose::Lxcs => return Ok(Command::Lxc),
        Whose::Supervisors => return Ok(Command::Svc),
        Whose::Ours => {}
    }
    if m.wants_help() {
        return Ok(Command::Help(HelpArgs { verb, long: m.wants_long_help() }));
    }
    if m.is_on(&flags::VERSION) {
        return Ok(Command::Version);
    }
    read.map_err(usage)?;
    let Some(verb) = verb else { return help(&m).map_err(usage) };
    usage::check_count(global.program, verb, m.operands.len()).map_err(usage)?;
    (verb.read)(&m).map_err(usage)
}

/// Whose a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This program's.
    Ours,
    /// The one's for defined containers.
    Managers,
    /// The one's for LXC's tools.
    Lxcs,
    /// The one's that keeps services running.
    Supervisors,
}

/// Scans up to the command, finds it, and scans the rest with its own options first.
fn scan_all(
    args: &mut std::vec::IntoIter<String>,
    program: Program,
    m: &mut Matches,
    verb: &mut Option<&'static Verb>,
) -> Result<Whose, UsageError> {
    scan(args, &[FIRST, GLOBAL], Stop::AtOperand, m)?;
    let Some(name) = args.next() else { return Ok(Whose::Ours) };
    if name == "help" || name == "h" {
        m.operands.push(name);
        m.operands.extend(args);
        let of = m.operands.get(1).map_or("", String::as_str);
        return Ok(match of {
            SVC if program == Program::Skep => Whose::Supervisors,
            of if program == Program::Skep && is_managed(of) => Whose::Managers,
            _ => Whose::Ours,
        });
    }
    if program == Program::Skep && name == SVC {
        return Ok(Whose::Supervisors);
    }
    if program == Program::Skep && (is_managed(&name) || defines(&name, args.as_slice())) {
        return Ok(Whose::Managers);
    }
    if program == Program::Skep && is_lxc_tool(&name) {
        return Ok(Whose::Lxcs);
    }
    let found = find_verb(&name)?;
    *verb = Some(found);
    let stop = found.stop_after.map_or(Stop::Never, Stop::After);
    scan(args, &[found.flags, &[&flags::HELP], GLOBAL], stop, m)?;
    Ok(if program == Program::Skep && is_of_definitions(found, m.operands.len()) {
        Whose::Managers
    } else {
        Whose::Ours
    })
}

/// Whether a command is one for defined containers by how much it names: `start` with several containers, `restore` with a
/// container and its snapshot.
fn is_of_definitions(verb: &Verb, operands: usize) -> bool {
    (std::ptr::eq(verb, &verbs::START) && operands > 1) || (std::ptr::eq(verb, &verbs::RESTORE) && operands == 2)
}

/// Whether a `create` or `start` is one of a definition by its options.
fn defines(name: &str, args: &[String]) -> bool {
    if name == verbs::START.name {
        let is = |arg: &String| matches!(arg.as_str(), "-F" | "-i" | "-Fi" | "-iF" | "--foreground" | "--interactive");
        return args.iter().any(is);
    }
    let is =
        |arg: &String, option| arg.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    let defines = |arg: &String| DEFINING.iter().any(|option| is(arg, option));
    name == verbs::CREATE.name && args.iter().take_while(|arg| *arg != "--").any(defines)
}

fn find_verb(name: &str) -> Result<&'static Verb, UsageError> {
    if let Some(verb) = VERBS.iter().find(|verb| verb.name == name) {
        return Ok(verb);
    }
    let near = suggest::nearest(name, VERBS.iter().map(|verb| verb.name));
    Err(UsageError::UnknownCommand { name: name.to_owned(), near })
}

/// `help`, `help COMMAND`, or nothing at all.
fn help(m: &Matches) -> Result<Command, UsageError> {
    let Some(name) = m.operands.get(1) else { return Ok(Command::Help(HelpArgs { verb: None, long: true })) };
    let verb = find_verb(name)?;
    Ok(Command::Help(HelpArgs { verb: Some(verb), long: true }))
}
