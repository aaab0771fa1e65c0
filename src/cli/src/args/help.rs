//! Renders help texts from the tables.

use super::command::{HelpArgs, Program};
use super::flags::{Flag, Takes};
use super::verbs::{FIRST, GLOBAL, MANAGED, VERBS, Verb};

/// Columns of a help text.
const WIDTH: usize = 100;

/// Column at which an option's text begins at the latest; a longer option has its text on the next line.
const TEXT_COLUMN: usize = 30;

/// What the program is, in a few words.
pub const ABOUT: &str = "Open Container Initiative runtime";

/// What the program does, in two sentences.
pub const PROGRAM: &str = "Runs containers as the runtime specification of the Open Container Initiative describes them. A \
                       container is described by a bundle: a folder with a file config.json and a root file system.";

/// Renders a help text.
#[must_use]
pub fn render_help(program: Program, help: HelpArgs) -> String {
    match help.verb {
        None => render_program(program, help.long),
        Some(verb) => render_verb(program, verb, help.long),
    }
}

fn render_program(program: Program, long: bool) -> String {
    let name = program.name();
    let mut out =
        format!("NAME:\n   {name} - {ABOUT}\n\nUSAGE:\n   {name} [global options] <command> [options] [argument...]\n");
    if long {
        out += "\nDESCRIPTION:\n";
        wrap(&mut out, PROGRAM, 3);
        out += &format!("\n   To try one: {name} spec; {name} run <container-id>\n");
    }
    out += "\nCOMMANDS:\n";
    for verb in VERBS {
        two_columns(&mut out, verb.name, verb.about, 15);
    }
    two_columns(&mut out, "help, h", "show this help, or that of a command", 15);
    if program == Program::Skep {
        out += "\nCOMMANDS FOR DEFINED CONTAINERS:\n";
        for (name, about) in MANAGED {
            two_columns(&mut out, name, about, 18);
        }
    }
    out += "\nGLOBAL OPTIONS:\n";
    render_flags(&mut out, &[GLOBAL, FIRST].concat(), long);
    out
}

fn render_verb(program: Program, verb: &Verb, long: bool) -> String {
    let name = program.name();
    let mut out = format!("NAME:\n   {name} {} - {}\n\nUSAGE:\n   {name} {}", verb.name, verb.about, verb.name);
    for part in [if verb.flags.is_empty() { "" } else { "[options]" }, verb.operands] {
        if !part.is_empty() {
            out += " ";
            out += part;
        }
    }
    out += "\n";
    if !verb.more.is_empty() {
        out += "\nDESCRIPTION:\n";
        wrap(&mut out, verb.more, 3);
    }
    if verb.flags.iter().any(|flag| !flag.hidden) {
        out += "\nOPTIONS:\n";
        render_flags(&mut out, verb.flags, long);
    }
    out += &format!("\nGlobal options may stand here, too: see {name} --help.\n");
    out
}

fn render_flags(out: &mut String, flags: &[&Flag], long: bool) {
    for flag in flags.iter().filter(|flag| !flag.hidden) {
        let mut text = flag.help.to_owned();
        if let Some(default) = flag.default {
            text += &format!(" (default: {default})");
        }
        two_columns(out, &render_names(flag), &text, TEXT_COLUMN);
        if long && !flag.more.is_empty() {
            wrap(out, flag.more, TEXT_COLUMN);
        }
    }
}

/// `--bundle DIR, -b DIR`.
fn render_names(flag: &Flag) -> String {
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        takes => format!(" {}", takes.placeholder()),
    };
    match flag.short {
        Some(short) => format!("-{short}, --{}{value}", flag.long),
        None => format!("--{}{value}", flag.long),
    }
}

fn two_columns(out: &mut String, left: &str, right: &str, column: usize) {
    let mut text = String::new();
    wrap(&mut text, right, column);
    let used = 3 + left.len();
    *out += &format!("   {left}");
    if used + 2 <= column {
        *out += &text[used..];
    } else {
        *out += "\n";
        *out += &text;
    }
}

/// Appends words as lines of at most [`WIDTH`] columns that begin at column `indent`.
fn wrap(out: &mut String, text: &str, indent: usize) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            *out += "\n";
            column = 0;
        }
        if column == 0 {
            *out += &" ".repeat(indent);
            column = indent;
        } else {
            *out += " ";
            column += 1;
        }
        *out += word;
        column += word.len();
    }
    *out += "\n";
}
