//! `config` and `edit`: a definition after it was made.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Error, Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::args::LOG_FILES_MAX;
use crate::args_config::{ConfigVerb, EditArgs};
use crate::definition::{Autostart, Definition, LogBounds, Ready, Restart, Seccomp, parse_cpus, parse_ready};
use crate::document;
use crate::keys::{self, Finding};
use crate::ops::checkconfig;
use crate::output::{self, Format, tell};
use crate::pending;
use crate::places::{find_program, validate_name};
use crate::run::Manager;
use crate::size::parse_size;
use crate::validate::{validate_hostname, validate_memory, validate_signal};

/// One key: how it is shown, and how it is set; `None` takes it away or back to what it is by default.
struct Key {
    name: &'static str,
    /// Its value as JSON has it.
    get: fn(&Definition) -> Value,
    set: fn(&mut Definition, Option<&str>) -> Result<(), String>,
    /// Whether a running container gets it at once.
    live: bool,
}

/// All keys but those of variables (`env.NAME`), which are any number.
static KEYS: [Key; 20] = [
    Key {
        name: "memory",
        get: |d| json!(d.limits.memory),
        set: |d, text| {
            d.limits.memory = text.map(|text| parse_size(text).and_then(validate_memory)).transpose()?;
            Ok(())
        },
        live: true,
    },
    Key {
        name: "cpus",
        #[allow(clippy::cast_precision_loss)] // Thousandths of processors.
        get: |d| json!(d.limits.millicpus.map(|thousandths| thousandths as f64 / 1000.0)),
        set: |d, text| {
            d.limits.millicpus = text.map(parse_cpus).transpose()?;
            Ok(())
        },
        live: true,
    },
    Key {
        name: "pids",
        get: |d| json!(d.limits.pids),
        set: |d, text| {
            d.limits.pids = text.map(|text| parse_number(text, 1, i64::MAX)).transpose()?;
            Ok(())
        },
        live: true,
    },
    Key {
        name: "command",
        get: |d| json!(d.process.args),
        set: |d, text| {
            let wrong = || "want a list such as [\"/bin/httpd\", \"-f\"]".to_owned();
            let args: Vec<String> = serde_json::from_str(text.ok_or_else(wrong)?).map_err(|_| wrong())?;
            if args.is_empty() {
                return Err(wrong());
            }
            d.process.args = args;
            Ok(())
        },
        live: false,
    },
    Key {
        name: "workdir",
        get: |d| json!(d.process.cwd),
        set: |d, text| {
            let folder = text.unwrap_or("/");
            if !folder.starts_with('/') {
                return Err(format!("{folder:?} must be an absolute path"));
            }
            folder.clone_into(&mut d.process.cwd);
            Ok(())
        },
        live: false,
    },
    Key {
        name: "user",
        get: |d| json!(d.process.user),
        set: |d, text| {
            d.process.user = text.map(str::to_owned);
            Ok(())
        },
        live: false,
    },
    Key {
        name: "hostname",
        get: |d| json!(d.hostname),
        set: |d, text| {
            let name = text.unwrap_or(&d.name).to_owned();
            validate_hostname(&name)?;
            d.hostname = name;
            Ok(())
        },
        live: false,
    },
    Key {
        name: "restart",
        get: |d| json!(d.restart),
        set: |d, text| {
            d.restart = text.map_or(Ok(Restart::No), |text| Restart::from_str(text, true))?;
            Ok(())
        },
        // It counts at the end.
        live: true,
    },
    Key {
        name: "seccomp",
        get: |d| json!(d.seccomp),
        set: |d, text| {
            d.seccomp = text.map_or(Ok(Seccomp::Default), |text| Seccomp::from_str(text, true))?;
            Ok(())
        },
        live: false,
    },
    Key {
        name: "nesting",
        get: |d| json!(d.system.as_ref().is_some_and(|system| system.nesting)),
        set: |d, text| {
            let wanted = parse_bool(text)?;
            match &mut d.system {
                Some(system) => system.nesting = wanted,
                None if wanted => return Err("only a whole system can have it (create --init)".to_owned()),
                None => {}
            }
            Ok(())
        },
        live: false,
    },
    Key {
        name: "view",
        get: |d| json!(d.view),
        set: |d, text| {
            d.view = text.is_none() || parse_bool(text)?;
            Ok(())
        },
        live: false,
    },
    Key {
        name: "stop-signal",
        get: |d| json!(d.stop_signal),
        set: |d, text| {
            let signal = text.unwrap_or("TERM");
            validate_signal(signal)?;
            signal.clone_into(&mut d.stop_signal);
            Ok(())
        },
        // It counts at the stop.
        live: true,
    },
    Key {
        name: "ttys",
        get: |d| d.system.as_ref().map_or(Value::Null, |system| json!(system.ttys)),
        set: |d, text| {
            let count = text.map_or(Ok(0), |text| parse_number(text, 0, runtime_spec::ttys::MAX.into()))?;
            let count = u16::try_from(count).map_err(|error| error.to_string())?;
            match &mut d.system {
                Some(system) if d.process.terminal || count == 0 => system.ttys = count,
                Some(_) => return Err("it has no console: it runs without a monitor".to_owned()),
                None => return Err("it is no whole system (create --init)".to_owned()),
            }
            Ok(())
        },
        live: false,
    },
    Key {
        name: "log-size",
        get: |d| json!(d.log.size),
        set: |d, text| {
            d.log.size = text.map_or(Ok(LogBounds::default().size), parse_size)?;
            Ok(())
        },
        live: false,
    },
    Key {
        name: "log-files",
        get: |d| json!(d.log.files),
        set: |d, text| {
            let default = LogBounds::default().files;
            d.log.files = match text {
                Some(text) => u32::try_from(parse_number(text, 0, LOG_FILES_MAX)?).unwrap_or(default),
                None => default,
            };
            Ok(())
        },
        live: false,
    },
    Key {
        name: "autostart",
        get: |d| json!(d.autostart.is_some()),
        set: |d, text| {
            match parse_bool(text)? {
                true => drop(d.autostart.get_or_insert_default()),
                false => d.autostart = None,
            }
            Ok(())
        },
        live: true,
    },
    Key {
        name: "autostart.order",
        get: |d| json!(d.autostart.as_ref().map(|autostart| autostart.order)),
        set: |d, text| {
            let order = text.map_or(Ok(0), |text| parse_number(text, i64::from(i32::MIN), i64::from(i32::MAX)))?;
            of_autostart(d)?.order = i32::try_from(order).unwrap_or(0);
            Ok(())
        },
        live: true,
    },
    Key {
        name: "autostart.after",
        get: |d| json!(d.autostart.as_ref().map(|autostart| &autostart.after)),
        set: |d, text| {
            let names = parse_list(text);
            for name in &names {
                validate_name("container", name).map_err(|error| error.to_string())?;
            }
            of_autostart(d)?.after = names;
            Ok(())
        },
        live: true,
    },
    Key {
        name: "autostart.groups",
        get: |d| json!(d.autostart.as_ref().map(|autostart| &autostart.groups)),
        set: |d, text| {
            of_autostart(d)?.groups = parse_list(text);
            Ok(())
        },
        live: true,
    },
    Key {
        name: "autostart.ready",
        get: |d| json!(d.autostart.as_ref().and_then(|autostart| autostart.ready.as_ref()).map(Ready::render)),
        set: |d, text| {
            of_autostart(d)?.ready = text.map(parse_ready).transpose()?;
            Ok(())
        },
        live: true,
    },
];

fn of_autostart(definition: &mut Definition) -> Result<&mut Autostart, String> {
    definition
        .autostart
        .as_mut()
        .ok_or_else(|| "it does not begin with the machine: set autostart=true before".to_owned())
}

fn parse_number(text: &str, min: i64, max: i64) -> Result<i64, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?}: want a number from {min} to {max}")),
    }
}

/// `false` for nothing.
fn parse_bool(text: Option<&str>) -> Result<bool, String> {
    match text {
        Some("true") => Ok(true),
        None | Some("false") => Ok(false),
        Some(other) => Err(format!("{other:?}: want true or false")),
    }
}

/// `a,b`; nothing for nothing.
fn parse_list(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// What sets one variable by its key.
const ENV: &str = "env.";

fn get(definition: &Definition, key: &str) -> Result<Value> {
    if let Some(variable) = key.strip_prefix(ENV) {
        let value = definition.process.env.iter().find_map(|entry| entry.strip_prefix(variable)?.strip_prefix('='));
        return Ok(json!(value));
    }
    Ok((find(key)?.get)(definition))
}

fn find(key: &str) -> Result<&'static Key> {
    match KEYS.iter().find(|known| known.name == key) {
        Some(known) => Ok(known),
        None => {
            let names: Vec<&str> = KEYS.iter().map(|known| known.name).collect();
            bail!("there is no key {key:?}: want {}, or {ENV}NAME; skep edit shows the rest", names.join(", "))
        }
    }
}

/// Sets one key, or takes it away. Whether a running container has it at once.
fn set(definition: &mut Definition, key: &str, value: Option<&str>) -> Result<bool> {
    if let Some(variable) = key.strip_prefix(ENV) {
        if variable.is_empty() || variable.contains('=') {
            bail!("{variable:?} is no name of a variable");
        }
        let prefix = format!("{variable}=");
        definition.process.env.retain(|entry| !entry.starts_with(&prefix));
        definition.process.env.extend(value.map(|value| format!("{prefix}{value}")));
        return Ok(false);
    }
    let known = find(key)?;
    (known.set)(definition, value).map_err(Error::msg).with_context(|| format!("cannot set {key}"))?;
    Ok(known.live)
}

/// `config get | set | unset`.
///
/// # Errors
/// There is no such container or key, the value makes no sense, or the runtime refuses a limit: then nothing is changed.
pub fn config(manager: &Manager, verb: &ConfigVerb) -> Result<()> {
    match verb {
        ConfigVerb::Get { name, key, printed } => {
            let definition = Definition::need(&manager.places, name)?;
            match key {
                Some(key) => print_one(printed.format(), &get(&definition, key)?),
                None => print_all(printed.format(), &definition),
            }
        }
        ConfigVerb::Set { name, entries } => {
            let split = |entry: &String| match entry.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
                None => bail!("{entry:?}: want KEY=VALUE"),
            };
            change(manager, name, &entries.iter().map(split).collect::<Result<Vec<_>>>()?)
        }
        ConfigVerb::Unset { name, keys } => {
            change(manager, name, &keys.iter().map(|key| (key.clone(), None)).collect::<Vec<_>>())
        }
    }
}

fn print_one(format: Format, value: &Value) -> Result<()> {
    if format != Format::Table {
        return output::print(format, value, Vec::new);
    }
    output::write(&format!("{}\n", shown(value)))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn print_all(format: Format, definition: &Definition) -> Result<()> {
    let mut all: Map<String, Value> = KEYS
        .iter()
        .map(|key| (key.name.to_owned(), (key.get)(definition)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    for entry in &definition.process.env {
        if let Some((variable, value)) = entry.split_once('=') {
            all.insert(format!("{ENV}{variable}"), json!(value));
        }
    }
    output::print(format, &all, || {
        let header = ["KEY", "VALUE"].map(str::to_owned).to_vec();
        std::iter::once(header).chain(all.iter().map(|(key, value)| vec![key.clone(), shown(value)])).collect()
    })
}

fn change(manager: &Manager, name: &str, changes: &[(String, Option<String>)]) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let before = Definition::need(&manager.places, name)?;
    let mut after = before.clone();
    let mut later = Vec::new();
    for (key, value) in changes {
        if !set(&mut after, key, value.as_deref())? {
            later.push(key.as_str());
        }
    }
    checkconfig::refuse_new(manager, Some(&before), &after)?;
    let folder = manager.places.container(name);
    let shown = document::read_text(&folder)?;
    after.write(&folder)?;
    limit_or_undo(manager, Some(&before), &after, &shown).map_err(Undone::into_error)?;
    if !later.is_empty() && manager.runtime.is_alive(name)? {
        tell(&format!("note: {} of container {name:?} holds from its next start", later.join(", ")));
    }
    Ok(())
}

/// What became of a definition whose limits a container did not get.
enum Undone {
    /// It is as it was.
    Whole(Error),
    /// It could not be put back.
    Not(Error),
}

impl Undone {
    fn into_error(self) -> Error {
        let (Undone::Whole(error) | Undone::Not(error)) = self;
        error
    }
}

/// Gives a running container the limits of a definition that has just been written; where it does not get them, `shown` is
/// written back. In this order nothing is changed if either fails.
fn limit_or_undo(
    manager: &Manager,
    before: Option<&Definition>,
    after: &Definition,
    shown: &str,
) -> Result<(), Undone> {
    limit(manager, before, after).map_err(|error| {
        match document::write_text(&manager.places.container(&after.name), shown) {
            Ok(()) => Undone::Whole(error),
            Err(also) => Undone::Not(error.context(format!("the new definition is kept all the same: {also:#}"))),
        }
    })
}

/// Gives a running container its new limits.
fn limit(manager: &Manager, before: Option<&Definition>, after: &Definition) -> Result<()> {
    let name = &after.name;
    if before.is_none_or(|before| before.limits != after.limits) && manager.runtime.is_alive(name)? {
        manager.runtime.update(name, after.limits).context("the container keeps its limits")?;
    }
    Ok(())
}

/// `edit NAME`: the whole definition as TOML in the caller's editor, also one that cannot be read and is to be mended.
///
/// # Errors
/// There is no such container; there is no editor; what was written makes no sense: then nothing is changed, and the text is
/// kept where it is another one.
pub fn edit(manager: &Manager, args: &EditArgs) -> Result<()> {
    let name = &args.name;
    validate_name("container", name)?;
    let folder = manager.places.container(name);
    let before = match Definition::read(&manager.places, name) {
        Ok(None) => bail!("container {name:?} is not defined"),
        Ok(before) => before,
        Err(error) => {
            tell(&format!("note: {error:#}"));
            None
        }
    };
    let shown = document::read_text(&folder)?;
    let path = std::env::temp_dir().join(format!("skep-{name}-{}.toml", std::process::id()));
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let written = options.open(&path).and_then(|mut file| file.write_all(shown.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    let edited = run_editor(&path).and_then(|()| {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let after = parse_edited(&text, &shown, &path, name)?;
        checkconfig::refuse_new(manager, before.as_ref(), &after)?;
        Ok((text, after))
    });
    let (text, after) = edited.map_err(|error| refuse_edited(error, &path, &shown))?;
    let kept = || -> Result<(), Undone> {
        let _lock = pending::lock(manager, name).map_err(Undone::Whole)?;
        if document::read_text(&folder).map_err(Undone::Whole)? != shown {
            return Err(Undone::Whole(Error::msg("somebody else has changed it meanwhile")));
        }
        document::write_text(&folder, &text).map_err(Undone::Whole)?;
        limit_or_undo(manager, before.as_ref(), &after, &shown)
    };
    kept().map_err(|undone| match undone {
        Undone::Whole(error) => refuse_edited(error, &path, &shown),
        Undone::Not(error) => error.context(format!("what you wrote is in {}", path.display())),
    })?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    if before.as_ref() != Some(&after) && manager.runtime.is_alive(name)? {
        tell(&format!("note: limits hold now, all else from the next start of container {name:?}"));
    }
    Ok(())
}

/// Says that nothing is changed, and keeps what was written if anything was.
fn refuse_edited(error: Error, path: &Path, shown: &str) -> Error {
    if fs::read_to_string(path).is_ok_and(|text| text == shown) && fs::remove_file(path).is_ok() {
        return error.context("nothing is changed");
    }
    error.context(format!("nothing is changed; what you wrote is in {}", path.display()))
}

fn run_editor(path: &Path) -> Result<()> {
    let named =
        ["VISUAL", "EDITOR"].into_iter().find_map(|key| std::env::var(key).ok().filter(|value| !value.is_empty()));
    let found = || ["editor", "vi", "nano"].into_iter().find_map(find_program);
    let Some(editor) = named.or_else(found) else { bail!("there is no editor: set EDITOR") };
    // It may have arguments of its own, as in every program that reads these variables.
    let status = Command::new("/bin/sh").args(["-c", &format!("{editor} \"$1\""), "editor"]).arg(path).status();
    let status = status.with_context(|| format!("cannot run {editor}"))?;
    if !status.success() {
        bail!("{editor} ended with {status}");
    }
    Ok(())
}

/// The definition of an edited text, or what is wrong with it and was not with the text before, a line for each.
fn parse_edited(text: &str, shown: &str, path: &Path, name: &str) -> Result<Definition> {
    let before = keys::check(shown, Some(name));
    let is_known =
        |finding: &Finding| before.iter().any(|known| (&known.key, &known.text) == (&finding.key, &finding.text));
    let findings: Vec<Finding> =
        keys::check(text, Some(name)).into_iter().filter(|finding| !is_known(finding)).collect();
    if !findings.is_empty() {
        let lines: Vec<String> = findings.iter().map(|finding| checkconfig::render(path, finding)).collect();
        bail!("this is no definition of container {name:?}:\n{}", lines.join("\n"));
    }
    document::parse(text).map_err(|(line, error)| Error::msg(format!("{}:{line}: {error}", path.display())))
}
