//! Manual pages, from the tables that the parser and `--help` use.

use std::fmt::Write;

use cli::args::flags::{Flag, Takes};
use cli::args::help::{ABOUT, PROGRAM};
use cli::args::verbs::{FIRST, GLOBAL, VERBS, Verb};

const FILES: &[(&str, &str)] = &[
    ("/run/skep", "The state of containers, a folder for each, unless --root says otherwise."),
    ("config.json", "The definition of a container, in the folder of its bundle."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "Where criu, newuidmap, newgidmap and ps are found; folders that are not absolute are passed over."),
    ("XDG_RUNTIME_DIR", "An unprivileged user's state is in the folder skep below it."),
    (
        "DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS",
        "Where the service manager of the machine or of the user is reached with --systemd-cgroup.",
    ),
    ("LISTEN_PID, LISTEN_FDS", "Descriptors of socket activation, sd_listen_fds(3): the container gets them."),
    (
        "NOTIFY_SOCKET",
        "What the container's program says there, sd_notify(3), is passed on; start and a detached run last until it is \
         ready.",
    ),
];

/// All pages: file name, text.
pub(crate) fn render() -> Vec<(String, String)> {
    let verbs = VERBS.iter().map(|verb| (format!("skep-{}.1", verb.name), verb_page(verb)));
    std::iter::once(("skep.1".to_owned(), program_page())).chain(verbs).collect()
}

fn program_page() -> String {
    let mut page = head("skep", ABOUT);
    page += ".SH SYNOPSIS\n.B skep\n[\\fIglobal options\\fR] \\fIcommand\\fR [\\fIoptions\\fR] [\\fIargument\\fR...]\n";
    paragraph(&mut page, "DESCRIPTION", PROGRAM);
    page += ".SH COMMANDS\n";
    for verb in VERBS {
        item(&mut page, &format!("\\fBskep\\-{}\\fR(1)", escape(verb.name)), verb.about, "");
    }
    flags(&mut page, "GLOBAL OPTIONS", &[GLOBAL, FIRST].concat());
    for (title, entries) in [("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)] {
        writeln!(page, ".SH {title}").expect(STRING);
        for (name, text) in entries {
            item(&mut page, &format!("\\fB{}\\fR", escape(name)), text, "");
        }
    }
    page
}

fn verb_page(verb: &Verb) -> String {
    let mut page = head(&format!("skep-{}", verb.name), verb.about);
    let options = if verb.flags.is_empty() { "" } else { "[\\fIoptions\\fR] " };
    writeln!(page, ".SH SYNOPSIS\n.B skep {}\n{options}{}", escape(verb.name), escape(verb.operands)).expect(STRING);
    if !verb.more.is_empty() {
        paragraph(&mut page, "DESCRIPTION", verb.more);
    }
    flags(&mut page, "OPTIONS", verb.flags);
    page += ".SH SEE ALSO\n.BR skep (1),\nwhich has the global options. They may stand here, too.\n";
    page
}

/// Why writing to a string is no concern.
const STRING: &str = "writing to a string cannot fail";

fn head(name: &str, about: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (title, name) = (escape(&name.to_uppercase()), escape(name));
    format!(".TH {title} 1 \"\" \"skep {version}\" \"User Commands\"\n.SH NAME\n{name} \\- {}\n", escape(about))
}

fn paragraph(page: &mut String, title: &str, text: &str) {
    writeln!(page, ".SH {title}\n{}", escape(text)).expect(STRING);
}

fn flags(page: &mut String, title: &str, list: &[&Flag]) {
    let mut shown = list.iter().filter(|flag| !flag.hidden).peekable();
    if shown.peek().is_some() {
        writeln!(page, ".SH {title}").expect(STRING);
    }
    for flag in shown {
        let mut text = flag.help.to_owned();
        if let Some(default) = flag.default {
            write!(text, " (default: {default})").expect(STRING);
        }
        item(page, &names(flag), &text, flag.more);
    }
}

fn names(flag: &Flag) -> String {
    let short = flag.short.map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        takes => format!(" \\fI{}\\fR", escape(&takes.placeholder())),
    };
    format!("{short}\\fB\\-\\-{}\\fR{value}", escape(flag.long))
}

fn item(page: &mut String, name: &str, text: &str, more: &str) {
    writeln!(page, ".TP\n{name}\n{}", escape(text)).expect(STRING);
    if !more.is_empty() {
        writeln!(page, ".br\n{}", escape(more)).expect(STRING);
    }
}

/// Text as roff takes it: a backslash and a dash mean something, and so does a dot or an apostrophe that begins a line.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str) -> String {
        let found = render().into_iter().find(|(file, _)| file == name);
        found.unwrap_or_else(|| panic!("no page {name}")).1
    }

    #[test]
    fn each_command_has_a_page_with_all_its_options() {
        for verb in VERBS {
            let text = page(&format!("skep-{}.1", verb.name));
            for flag in verb.flags {
                let shown = text.contains(&format!(".TP\n{}\n", names(flag)));
                assert_eq!(shown, !flag.hidden, "{} --{}", verb.name, flag.long);
            }
            assert!(page("skep.1").contains(&format!("skep\\-{}\\fR(1)", verb.name)), "{}", verb.name);
        }
        for flag in [GLOBAL, FIRST].concat() {
            assert_eq!(page("skep.1").contains(&names(flag)), !flag.hidden, "--{}", flag.long);
        }
        assert_eq!(render().len(), VERBS.len() + 1);
    }

    #[test]
    fn what_roff_would_take_for_a_request_is_escaped() {
        assert_eq!(escape(".x -y a\\b it's"), "\\&.x \\-y a\\eb it\\(aqs");
        for (name, text) in render() {
            let requests = [".TH ", ".SH ", ".TP", ".B ", ".BR ", ".br"];
            for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
                assert!(requests.iter().any(|request| line.starts_with(request)), "{name}: {line}");
            }
        }
    }
}
