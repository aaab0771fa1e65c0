//! Definitions in a folder: one file for each service.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::definition::{Definition, parse};
use crate::table::Finding;

/// A file with its definition and text, or all that is wrong with it.
pub type Read = (PathBuf, Result<(Definition, String), Vec<Finding>>);

fn broken(error: &std::io::Error) -> Vec<Finding> {
    vec![Finding { key: String::new(), text: error.to_string() }]
}

/// Reads all `*.toml` of a folder, in the order of their names; a folder that is not there has none.
#[must_use]
pub fn read_all(folder: &Path) -> Vec<Read> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![(folder.to_owned(), Err(broken(&error)))],
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// Reads one file.
///
/// # Errors
/// All that is wrong with it.
pub fn read(path: &Path) -> Result<(Definition, String), Vec<Finding>> {
    let text = fs::read_to_string(path).map_err(|error| broken(&error))?;
    Ok((parse(&text)?, text))
}
