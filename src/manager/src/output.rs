//! What people and scripts see: tables, JSON, YAML.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// How a list is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Prints a document, or the table that `rows` makes, the header first.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(format: Format, document: &impl Serialize, rows: impl FnOnce() -> Vec<Vec<String>>) -> Result<()> {
    let text = match format {
        Format::Table => render_table(&rows()),
        Format::Json => serde_json::to_string_pretty(document).context("cannot render JSON")? + "\n",
        Format::Yaml => render_yaml(&serde_json::to_value(document).context("cannot render YAML")?),
    };
    write(&text)
}

/// Prints a document for programs, and for people nothing: they asked for something to be done, not to be told.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_document(format: Format, document: &impl Serialize) -> Result<()> {
    if format == Format::Table { Ok(()) } else { print(format, document, Vec::new) }
}

/// How a table says whether something is so.
#[must_use]
pub fn yes_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// Prints text.
///
/// # Errors
/// Standard output cannot be written.
pub fn write(text: &str) -> Result<()> {
    write_open(text).map(drop)
}

/// Prints text; whether somebody still reads.
///
/// # Errors
/// Standard output cannot be written.
pub fn write_open(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot write to standard output"),
    }
}

/// Renders rows as CSV (RFC 4180, with line feeds).
#[must_use]
pub fn render_csv(rows: &[Vec<String>]) -> String {
    let cell = |cell: &String| match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\n").collect()
}

/// Tells something that is no result.
pub fn tell(text: &str) {
    // There is nobody to tell when standard error is closed.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// Renders columns as wide as their widest cell, with two blanks between. An empty cell is a dash.
#[must_use]
pub fn render_table(rows: &[Vec<String>]) -> String {
    let shown = |cell: &str| if cell.is_empty() { "-".to_owned() } else { cell.to_owned() };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| shown(c).chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("{:width$}  ", shown(cell));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// Renders a JSON value as YAML 1.2 in block style. Every text that could be something else stands in quotes.
#[must_use]
pub fn render_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, 0),
        scalar => out += &format!("{}\n", render_scalar(scalar)),
    }
    out
}

fn block(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                *out += &format!("{pad}{}:", render_scalar(&Value::String(key.clone())));
                below(out, value, indent);
            }
        }
        Value::Array(list) => {
            for value in list {
                *out += &format!("{pad}-");
                if is_block(value) && value.is_object() {
                    // The first key stands on the line of the dash.
                    let mut item = String::new();
                    block(&mut item, value, indent + 2);
                    *out += " ";
                    *out += item.trim_start();
                } else {
                    below(out, value, indent);
                }
            }
        }
        scalar => *out += &format!("{pad}{}\n", render_scalar(scalar)),
    }
}

fn below(out: &mut String, value: &Value, indent: usize) {
    if is_block(value) {
        out.push('\n');
        block(out, value, indent + 2);
    } else {
        *out += &format!(" {}\n", render_scalar(value));
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    }
}

fn render_scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a text is itself in YAML, without quotes: begins with a letter, has nothing that YAML reads in another way.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && !text.eq_ignore_ascii_case("n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_reads_back_as_the_same() {
        let value = json!([
            { "name": "web1", "pid": 12, "ipv4": [], "ports": ["80:80", "on"], "at": { "a": null, "b": [[1], {}] } },
            { "name": "no", "pid": null, "text": "line\nline" }
        ]);
        assert_eq!(
            render_yaml(&value),
            "- at:\n    a: null\n    b:\n      -\n        - 1\n      - {}\n  ipv4: []\n  name: web1\n  pid: 12\n  ports:\n    \
             - \"80:80\"\n    - \"on\"\n- name: \"no\"\n  pid: null\n  text: \"line\\nline\"\n"
        );
        assert_eq!(render_yaml(&json!([])), "[]\n");
        assert_eq!(render_yaml(&json!("a b")), "\"a b\"\n");
    }

    #[test]
    fn what_separates_cells_stands_in_quotes() {
        let rows = [["a,b", "say \"x\""], ["", "1"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(render_csv(&rows), "\"a,b\",\"say \"\"x\"\"\"\n,1\n");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["NAME", "PID"], ["a-long-name", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(render_table(&rows), "NAME         PID\na-long-name  -\n");
    }
}
