//! Command lines in the form of getopt_long(3), which the tools of LXC have.

use std::fmt::Write;
use std::path::PathBuf;

use crate::VERSION;
use crate::output::tell;
use crate::tools::Tool;

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// The letter, where it has one.
    pub short: Option<char>,
    /// The name.
    pub long: &'static str,
    /// What its value is called; `None` where it has none.
    pub value: Option<&'static str>,
    /// What it does.
    pub about: &'static str,
}

/// An option with or without a value.
#[must_use]
pub const fn opt(short: Option<char>, long: &'static str, value: Option<&'static str>, about: &'static str) -> Opt {
    Opt { short, long, value, about }
}

/// Options that every tool has.
const COMMON: [Opt; 8] = [
    opt(Some('o'), "logfile", Some("FILE"), "accepted: messages go to standard error"),
    opt(Some('l'), "logpriority", Some("LEVEL"), "accepted: errors are told"),
    opt(Some('q'), "quiet", None, "tell no errors"),
    opt(Some('P'), "lxcpath", Some("PATH"), "containers are below PATH"),
    opt(None, "rcfile", Some("FILE"), "accepted: only lxc-start reads FILE"),
    opt(Some('?'), "help", None, "print this"),
    opt(None, "usage", None, "print the form of the command line"),
    opt(None, "version", None, "print the version"),
];

/// Where containers are unless told otherwise.
pub const LXCPATH: &str = "/var/lib/lxc";

/// A command line that was understood.
#[derive(Debug, Clone)]
pub struct Call {
    /// The tool, as `lxc-ls`.
    pub tool: String,
    /// The container, where the tool is for one.
    pub name: String,
    /// Options by their names, in order.
    pub options: Vec<(&'static str, String)>,
    /// All that is no option.
    pub operands: Vec<String>,
    /// Where containers are.
    pub lxcpath: PathBuf,
}

impl Call {
    /// Whether an option is there.
    #[must_use]
    pub fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The value of an option, the last one.
    #[must_use]
    pub fn get(&self, long: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// Tells an error, unless it is not to.
    pub fn tell(&self, text: &str) {
        if !self.has("quiet") {
            match self.name.as_str() {
                "" => tell(&format!("{}: {text}\n", self.tool)),
                name => tell(&format!("{}: {name}: {text}\n", self.tool)),
            }
        }
    }
}

/// What a command line leads to.
#[derive(Debug)]
pub enum Outcome {
    /// A text that was asked for.
    Print(String),
    /// A text that says what is wrong.
    Refuse(String),
    /// The tool.
    Run(Call),
}

/// Reads the command line of a tool.
#[must_use]
pub fn parse(tool: &Tool, args: &[String]) -> Outcome {
    let program = format!("lxc-{}", tool.name);
    let mut options = Vec::new();
    let mut operands = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            operands.extend(rest.by_ref().cloned());
        } else if let Some(long) = arg.strip_prefix("--") {
            match read_long(tool, long, &mut rest) {
                Ok(read) => options.push(read),
                Err(reason) => return refuse(tool, &reason),
            }
        } else if arg.len() > 1 && arg.starts_with('-') {
            match read_short(tool, &arg[1..], &mut rest) {
                Ok(read) => options.extend(read),
                Err(reason) => return refuse(tool, &reason),
            }
        } else {
            operands.push(arg.clone());
        }
    }
    let has = |long: &str| options.iter().any(|(name, _): &(&str, String)| *name == long);
    if has("help") {
        return Outcome::Print(render_help(tool));
    }
    if has("usage") {
        return Outcome::Print(render_usage(tool));
    }
    if has("version") {
        return Outcome::Print(format!("{VERSION}\n"));
    }
    let value = |long: &str| options.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.clone());
    let lxcpath = PathBuf::from(value("lxcpath").unwrap_or_else(|| LXCPATH.to_owned()));
    let named = value("name").or_else(|| {
        let first = tool.takes_name && !operands.is_empty();
        first.then(|| operands.remove(0))
    });
    if tool.takes_name && named.as_deref().is_none_or(str::is_empty) {
        return Outcome::Refuse(format!("{program}: No container name specified\n"));
    }
    let name = named.unwrap_or_default();
    if name.contains('/') || name.starts_with('.') {
        return Outcome::Refuse(format!("{program}: {name:?} is no name of a container\n"));
    }
    Outcome::Run(Call { tool: program, name, options, operands, lxcpath })
}

fn known(tool: &Tool) -> impl Iterator<Item = &'static Opt> {
    tool.options.iter().chain(&COMMON)
}

fn read_long(
    tool: &Tool,
    text: &str,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<(&'static str, String), String> {
    let (name, given) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
    // A name may be cut short as long as one option alone begins with it.
    let found: Vec<&Opt> = match known(tool).find(|opt| opt.long == name) {
        Some(exact) => vec![exact],
        None => known(tool).filter(|opt| opt.long.starts_with(name)).collect(),
    };
    let [found] = found.as_slice() else {
        let what = if found.is_empty() { "unrecognized option" } else { "ambiguous option" };
        return Err(format!("{what} '--{name}'"));
    };
    match (found.value, given) {
        (None, None) => Ok((found.long, String::new())),
        (None, Some(_)) => Err(format!("option '--{}' doesn't allow an argument", found.long)),
        (Some(_), Some(value)) => Ok((found.long, value)),
        (Some(_), None) => match rest.next() {
            Some(value) => Ok((found.long, value.clone())),
            None => Err(format!("option '--{}' requires an argument", found.long)),
        },
    }
}

fn read_short(
    tool: &Tool,
    letters: &str,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<Vec<(&'static str, String)>, String> {
    let mut read = Vec::new();
    for (at, letter) in letters.char_indices() {
        let Some(found) = known(tool).find(|opt| opt.short == Some(letter)) else {
            return Err(format!("invalid option -- '{letter}'"));
        };
        if found.value.is_none() {
            read.push((found.long, String::new()));
            continue;
        }
        let behind = &letters[at + letter.len_utf8()..];
        let value = if behind.is_empty() { rest.next().cloned() } else { Some(behind.to_owned()) };
        read.push((found.long, value.ok_or_else(|| format!("option requires an argument -- '{letter}'"))?));
        break;
    }
    Ok(read)
}

fn refuse(tool: &Tool, reason: &str) -> Outcome {
    Outcome::Refuse(format!("lxc-{}: {reason}\n{}", tool.name, render_help(tool)))
}

fn render_usage(tool: &Tool) -> String {
    format!("Usage: lxc-{} {}\n", tool.name, tool.form)
}

fn render_help(tool: &Tool) -> String {
    let mut text = render_usage(tool);
    let mut list = |heading: &str, options: &mut dyn Iterator<Item = &'static Opt>| {
        let mut is_first = true;
        for opt in options {
            if std::mem::take(&mut is_first) {
                text.push_str(heading);
            }
            let short = opt.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
            let value = opt.value.map_or(String::new(), |value| format!("={value}"));
            let name = format!("{short}--{}{value}", opt.long);
            // A text that is written to memory is written.
            writeln!(text, "  {name:<30} {}", opt.about).unwrap_or_default();
        }
    };
    list("\nOptions:\n", &mut tool.options.iter());
    list("\nCommon options:\n", &mut COMMON.iter());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::TOOLS;

    fn call(tool: &str, line: &str) -> Result<Call, String> {
        let tool = TOOLS.iter().find(|known| known.name == tool).unwrap();
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(tool, &args) {
            Outcome::Run(call) => Ok(call),
            Outcome::Print(text) | Outcome::Refuse(text) => Err(text),
        }
    }

    #[test]
    fn options_are_those_of_getopt() {
        for line in ["-n a -s", "-sn a", "-na -s", "--name=a --state", "--name a --state", "a -s", "-s a", "-s -- a"] {
            let call = call("info", line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!((call.name.as_str(), call.has("state"), call.operands.len()), ("a", true, 0), "{line}");
        }
        let attach = call("attach", "-n a -P /p -- ls -l").unwrap();
        assert_eq!((attach.operands, attach.lxcpath), (vec!["ls".to_owned(), "-l".to_owned()], PathBuf::from("/p")));
        let several = call("info", "a -c x -c y").unwrap();
        assert_eq!(several.all("config").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let refused = |line: &str, said: &str| {
            let text = call("info", line).unwrap_err();
            assert!(text.starts_with(said), "{text}");
        };
        refused("", "lxc-info: No container name specified\n");
        refused("-Z a", "lxc-info: invalid option -- 'Z'\nUsage: ");
        refused("--zzz a", "lxc-info: unrecognized option '--zzz'\n");
        refused("--log a", "lxc-info: ambiguous option '--log'\n");
        refused("--state=1 a", "lxc-info: option '--state' doesn't allow an argument\n");
        refused("a -n", "lxc-info: option requires an argument -- 'n'\n");
        refused("../a", "lxc-info: \"../a\" is no name of a container\n");
        refused("--version", "5.0.2\n");
        refused("--help", "Usage: lxc-info ");
    }
}
