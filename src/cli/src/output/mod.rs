//! What commands print on standard output: tables for people, JSON for programs.
//!
//! The renderers are pure; [`print()`] is the only writer.

pub mod check;
pub mod events;
pub mod features;
pub mod host;
pub mod list;
pub mod plan;
pub mod ps;
pub mod state;
pub mod table;
pub mod version;

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::{PrettyFormatter, Serializer};

/// Writes to standard output.
///
/// # Errors
/// Nobody reads it any more, or the disk is full.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Renders JSON on one line, with a line feed.
///
/// # Errors
/// A map has keys that are not text.
pub fn render_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|text| text + "\n")
}

/// Renders JSON over several lines, each level behind one more `indent`, without a line feed at the end.
///
/// # Errors
/// A map has keys that are not text.
pub fn render_json_indented<T: Serialize + ?Sized>(value: &T, indent: &str) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(indent.as_bytes())))?;
    String::from_utf8(bytes).map_err(serde_json::Error::custom)
}
