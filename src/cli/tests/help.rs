//! The help texts, word for word. `UPDATE_HELP=1 cargo test -p skep --test help` writes them anew.

use std::path::Path;

use cli::args::Program;
use cli::args::command::HelpArgs;
use cli::args::help::render_help;
use cli::args::verbs::{GLOBAL, VERBS};

#[track_caller]
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_HELP").is_some() {
        std::fs::write(&path, text).expect("a writable tree");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, expected, "{}", path.display());
}

#[test]
fn of_the_program() {
    check("skep", &render_help(Program::Skep, HelpArgs { verb: None, long: true }));
    check("skep-short", &render_help(Program::Skep, HelpArgs { verb: None, long: false }));
}

#[test]
fn of_each_command() {
    for verb in VERBS {
        check(verb.name, &render_help(Program::Skep, HelpArgs { verb: Some(verb), long: true }));
    }
}

#[test]
fn of_every_command_begins_as_scripts_expect() {
    for verb in VERBS {
        let help = render_help(Program::Runc, HelpArgs { verb: Some(verb), long: false });
        assert!(help.starts_with(&format!("NAME:\n   runc {} - ", verb.name)), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
    let help = render_help(Program::Runc, HelpArgs { verb: None, long: true });
    assert!(help.starts_with("NAME:\n   runc - Open Container Initiative runtime\n"), "{help}");
}

#[test]
fn no_name_stands_for_two_options_of_one_command() {
    for verb in VERBS {
        let mut names: Vec<&str> = verb.flags.iter().flat_map(|flag| [Some(flag.long), flag.short]).flatten().collect();
        names.extend(["help", "h"]);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{}: {names:?}", verb.name);
    }
    assert!(GLOBAL.iter().all(|flag| flag.short.is_none()), "a command may use any letter");
}
