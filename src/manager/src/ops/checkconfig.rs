//! `checkconfig`: all that is wrong with definitions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::args_config::CheckconfigArgs;
use crate::definition::Definition;
use crate::document;
use crate::judge;
use crate::keys::{self, Finding};
use crate::ops::network;
use crate::output::{self, Format};
use crate::places::validate_name;
use crate::rootless;
use crate::run::Manager;

/// One document, as `checkconfig --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Checked {
    /// The container; null for a file of no container.
    name: Option<String>,
    /// The document.
    file: PathBuf,
    /// What is wrong with it.
    findings: Vec<Finding>,
}

/// Looks at each. The exit code is 1 where something is wrong.
///
/// # Errors
/// There is no such container or file.
pub fn checkconfig(manager: &Manager, args: &CheckconfigArgs) -> Result<ExitCode> {
    let all = if args.what.is_empty() { Definition::names(&manager.places)? } else { args.what.clone() };
    let checked = all.iter().map(|what| check(manager, what)).collect::<Result<Vec<_>>>()?;
    if args.printed.format() == Format::Table {
        let lines = checked.iter().flat_map(|one| one.findings.iter().map(|finding| render(&one.file, finding) + "\n"));
        output::write(&lines.collect::<String>())?;
    } else {
        output::print(args.printed.format(), &checked, Vec::new)?;
    }
    let wrong = checked.iter().any(|one| !one.findings.is_empty());
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check(manager: &Manager, what: &str) -> Result<Checked> {
    if what.contains('/') || Path::new(what).extension().is_some_and(|extension| extension == "toml") {
        let file = PathBuf::from(what);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {what}"))?;
        return Ok(Checked { name: None, findings: keys::check(&text, None), file });
    }
    validate_name("container", what)?;
    let folder = manager.places.container(what);
    let text = document::read_text(&folder).with_context(|| format!("cannot look at container {what:?}"))?;
    let findings = keys::check(&text, Some(what));
    Ok(Checked { name: Some(what.to_owned()), file: folder.join(document::FILE), findings })
}

/// Refuses a container whose document has something wrong, with all of it.
///
/// # Errors
/// What is wrong, a line for each.
pub fn need_sound(folder: &Path, name: &str) -> Result<()> {
    let findings = keys::check(&document::read_text(folder)?, Some(name));
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(|finding| render(&folder.join(document::FILE), finding)).collect();
    bail!("the definition of container {name:?} makes no sense:\n{}", lines.join("\n"))
}

/// Refuses a definition that is about to be saved where the change makes something wrong, so that the verb says it and not the
/// next start. What was wrong before is no reason to refuse another change. `before` is `None` for what is being defined and for
/// what could not be read.
///
/// # Errors
/// What is wrong, a line for each, in the words of `checkconfig`; a network that there is not; what needs root.
pub fn refuse_new(manager: &Manager, before: Option<&Definition>, after: &Definition) -> Result<()> {
    let findings = judge::judge_change(before, after);
    if !findings.is_empty() {
        let lines: Vec<String> = findings.iter().map(|(key, text)| format!("{key}: {text}")).collect();
        bail!("the definition of container {:?} would make no sense:\n{}", after.name, lines.join("\n"));
    }
    // Who defines a container has asked the host before, in the words of its options.
    let Some(before) = before else { return Ok(()) };
    let connection = |of: &'_ Definition| (of.network.clone(), of.links.clone(), of.publish.clone(), of.share.clone());
    if connection(before) != connection(after) {
        network::check(manager, after)?;
    }
    if rootless::read_caller()?.is_some() && rootless::check(before).is_ok() {
        rootless::check(after)?;
    }
    Ok(())
}

/// `FILE:LINE: KEY: TEXT`, as editors and compilers have it.
#[must_use]
pub fn render(file: &Path, finding: &Finding) -> String {
    let key = if finding.key.is_empty() { String::new() } else { format!("{}: ", finding.key) };
    format!("{}:{}: {key}{}", file.display(), finding.line, finding.text)
}
