//! The document of a definition: `containers/NAME/definition.toml`. Everything that reads or writes one does so here.
//!
//! What a person wrote stays as it is, with comments and order: a change by a verb replaces the values that it changes and
//! nothing else. A document is replaced by a rename, so a crash leaves the old one or the new one. What is in it: docs/definition.md.
//!
//! ```text
//! definition.toml   the definition
//! definition.json   that of a version before; read where there is no other, and replaced by whoever takes the container's lock
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use toml_edit::{DocumentMut, Item, TableLike};

use crate::definition::Definition;
use crate::keys;
use crate::places::{Readers, remove_if_there, write_whole};

/// Name of the document in the container's folder.
pub const FILE: &str = "definition.toml";
/// What it was called before, as JSON.
const BEFORE: &str = "definition.json";
/// First line of a document that nobody has written by hand.
const HEADING: &str = "# A container of skep. \"skep edit NAME\" and \"skep config set NAME\" change it, \"skep checkconfig\" judges it.\n";

/// Reads the definition in a container's folder; `None` where there is none.
///
/// # Errors
/// It cannot be read; it is none, with file and line; a newer version wrote it.
pub fn read(folder: &Path) -> Result<Option<Definition>> {
    let path = folder.join(FILE);
    match read_file(&path)? {
        Some(text) => parse_file(&path, &text).map(Some),
        None => match read_before(&folder.join(BEFORE))? {
            Some(definition) => Ok(Some(definition)),
            // Somebody may have converted it between the two looks.
            None => read_file(&path)?.map(|text| parse_file(&path, &text)).transpose(),
        },
    }
}

fn parse_file(path: &Path, text: &str) -> Result<Definition> {
    parse(text).map_err(|(line, error)| anyhow!("{}:{line}: {error}", path.display()))
}

fn read_file(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        other => other.with_context(|| format!("cannot read {}", path.display())).map(Some),
    }
}

fn read_before(path: &Path) -> Result<Option<Definition>> {
    let Some(text) = read_file(path)? else { return Ok(None) };
    let parse = || -> Result<Definition> {
        let Version { schema } = serde_json::from_str(&text)?;
        need_known(schema)?;
        Ok(serde_json::from_str(&text)?)
    };
    parse().with_context(|| format!("cannot use {}", path.display())).map(Some)
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

fn need_known(schema: u32) -> Result<()> {
    if schema != Definition::SCHEMA {
        bail!("it has version {schema}, this program knows version {}", Definition::SCHEMA);
    }
    Ok(())
}

/// Reads the text of a document. What values mean is not judged: see [`crate::keys::check`].
///
/// # Errors
/// The line, counted from 1, and what is wrong there.
pub fn parse(text: &str) -> Result<Definition, (usize, String)> {
    let told = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        (line, error.message().to_owned())
    };
    let parsed: Result<Definition, _> = toml::from_str(text);
    let schema = match &parsed {
        Ok(definition) => Some(definition.schema),
        // A newer version may have anything else.
        Err(_) => toml::from_str(text).ok().map(|Version { schema }| schema),
    };
    if let Some(Err(error)) = schema.map(need_known) {
        return Err((keys::line_of_key(text, "schema"), error.to_string()));
    }
    parsed.map_err(told)
}

/// The line of a byte of a text, counted from 1.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// The text of a definition's document in a container's folder.
///
/// # Errors
/// It cannot be read, or there is none.
pub fn read_text(folder: &Path) -> Result<String> {
    if let Some(text) = read_file(&folder.join(FILE))? {
        return Ok(text);
    }
    match read(folder)? {
        Some(definition) => render(&definition),
        None => bail!("there is no {}", folder.join(FILE).display()),
    }
}

/// Writes text that somebody has written as a definition's document.
///
/// # Errors
/// What the kernel says.
pub fn write_text(folder: &Path, text: &str) -> Result<()> {
    write_whole(&folder.join(FILE), text.as_bytes(), Readers::Owner)?;
    // Not before the other one is on disk.
    remove_if_there(&folder.join(BEFORE))
}

/// Replaces what an older version has written, if there is such a document. The container's lock is to be held.
///
/// # Errors
/// It cannot be read, or what the kernel says; then it stays.
pub fn convert(folder: &Path) -> Result<()> {
    let before = folder.join(BEFORE);
    if !before.exists() {
        return Ok(());
    }
    if folder.join(FILE).exists() {
        return remove_if_there(&before);
    }
    read_before(&before)?.map_or(Ok(()), |definition| definition.write(folder))
}

impl Definition {
    /// Writes the definition into the container's folder, or into one that will be renamed to it. Of a document that is there
    /// already only those values change that are others now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let there = read_file(&folder.join(FILE))?.and_then(|text| parse(&text).ok().map(|before| (text, before)));
        let text = match there {
            Some((text, before)) => change(&text, &before, self)?,
            None => render(self)?,
        };
        write_text(folder, &text)
    }
}

/// Renders a definition as a document of its own.
///
/// # Errors
/// A number has no place in TOML, whose integers end at 2^63 - 1.
pub fn render(definition: &Definition) -> Result<String> {
    let text = toml::to_string_pretty(definition).context("cannot render the definition")?;
    Ok(format!("{HEADING}{text}"))
}

/// The text of a document of `before` with the values of `after`.
fn change(text: &str, before: &Definition, after: &Definition) -> Result<String> {
    let values = |definition: &Definition| toml::Table::try_from(definition).context("cannot render the definition");
    let mut document: DocumentMut = text.parse().context("this is no definition")?;
    let rendered: DocumentMut = render(after)?.parse().context("cannot render the definition")?;
    change_table(document.as_table_mut(), &values(before)?, &values(after)?, rendered.as_table());
    Ok(document.to_string())
}

/// Changes what differs. `rendered` is `after` with its form.
fn change_table(text: &mut dyn TableLike, before: &toml::Table, after: &toml::Table, rendered: &dyn TableLike) {
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        text.remove(key);
    }
    for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(*value)) {
        let Some(new) = rendered.get(key) else { continue };
        if let (Some(toml::Value::Table(before)), toml::Value::Table(after)) = (before.get(key), value)
            && let (Some(there), Some(rendered)) =
                (text.get_mut(key).and_then(Item::as_table_like_mut), new.as_table_like())
        {
            change_table(there, before, after, rendered);
            continue;
        }
        match (text.get_mut(key), new) {
            // What stands behind it on the line stays.
            (Some(Item::Value(there)), Item::Value(new)) => {
                let decor = there.decor().clone();
                *there = new.clone();
                *there.decor_mut() = decor;
            }
            (_, new) => {
                text.insert(key, placed_last(new));
            }
        }
    }
}

/// A part of another document without its place there.
fn placed_last(item: &Item) -> Item {
    let mut item = item.clone();
    if let Some(table) = item.as_table_mut() {
        table.set_position(None);
    }
    item
}

/// A piece of JSON in a document: a table where TOML has all of it, else a text. `null` and numbers from 2^63 on are not TOML.
pub(crate) mod piece {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    fn fits(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Number(number) => number.is_i64() || !number.is_u64(),
            Value::Array(list) => list.iter().all(fits),
            Value::Object(map) => map.values().all(fits),
            Value::Bool(_) | Value::String(_) => true,
        }
    }

    pub(crate) fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
        if fits(value) { value.serialize(serializer) } else { serializer.serialize_str(&value.to_string()) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => serde_json::from_str(&text).map_err(serde::de::Error::custom),
            other => Ok(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"# The front.
schema = 1
name = "web1"
created = 0
hostname = "web1" # as in the zone
stop_signal = "TERM"

[from]
kind = "host"

# As much as two of them have.
[limits]
memory = "64M" # measured
pids = 9

[process]
args = ["true"]
cwd = "/"

[network]
kind = "none"
"#;

    #[test]
    fn what_somebody_wrote_stays() {
        let before = parse(WRITTEN).unwrap();
        assert_eq!(before.limits.memory, Some(64 << 20));
        assert_eq!(change(WRITTEN, &before, &before).unwrap(), WRITTEN);
        let mut after = before.clone();
        after.limits.memory = Some(128 << 20);
        after.limits.pids = None;
        after.limits.millicpus = Some(500);
        after.hostname = "web2".to_owned();
        after.monitor = false;
        after.autostart = Some(crate::definition::Autostart { order: 3, ..Default::default() });
        let text = change(WRITTEN, &before, &after).unwrap();
        assert_eq!(parse(&text).unwrap(), after, "{text}");
        for line in ["# The front.", "hostname = \"web2\" # as in the zone", "memory = 134217728 # measured"] {
            assert!(text.lines().any(|there| there == line), "{line} in {text}");
        }
        assert!(text.contains("# As much as two of them have.\n[limits]") && !text.contains("pids"), "{text}");
        assert_eq!(change(&text, &after, &before).map(|text| parse(&text).unwrap()).unwrap(), before);
    }

    #[test]
    fn an_older_document_is_read_and_converted_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut definition = parse(WRITTEN).unwrap();
        definition.oci = serde_json::json!({ "process": { "user": null, "limit": u64::MAX } });
        let old = dir.path().join(BEFORE);
        fs::write(&old, serde_json::to_vec(&definition).unwrap()).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap(), definition);
        convert(dir.path()).unwrap();
        assert!(!old.exists());
        assert_eq!(read(dir.path()).unwrap().unwrap(), definition);
        // As a kill between the two leaves it.
        fs::write(&old, "{").unwrap();
        convert(dir.path()).unwrap();
        assert!(!old.exists() && read(dir.path()).unwrap().is_some());
        // One that makes no sense stays.
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::write(&old, "{").unwrap();
        convert(dir.path()).unwrap_err();
        assert!(old.exists());
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        let error = parse("schema = 99\nnovelty = 1").unwrap_err();
        assert!(error.0 == 1 && error.1.contains("version 99"), "{error:?}");
        let error = parse(&WRITTEN.replace("pids = 9", "pids = \"many\"")).unwrap_err();
        assert_eq!(error.0, 14, "{error:?}");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), WRITTEN.replace("name = \"web1\"", "name = ")).unwrap();
        let error = format!("{:#}", read(dir.path()).unwrap_err());
        assert!(error.contains("definition.toml:3: "), "{error}");
        assert!(read(&dir.path().join("none")).unwrap().is_none());
    }
}
