//! Containers on disk: folders with a `config` below the path of containers.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runtime_spec::lxc::{self, Config, Found, Source};

/// Name of the configuration in a container's folder.
const CONFIG: &str = "config";

/// Groups of a container and how it starts with the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Autostart {
    /// `lxc.start.auto`.
    pub auto: bool,
    /// `lxc.start.delay`, seconds.
    pub delay: u64,
    /// `lxc.start.order`.
    pub order: i32,
    /// `lxc.group`.
    pub groups: Vec<String>,
}

/// The configuration of a container.
#[must_use]
pub fn config_path(lxcpath: &Path, name: &str) -> PathBuf {
    lxcpath.join(name).join(CONFIG)
}

/// The names of all containers below a path, in order.
///
/// # Errors
/// The path cannot be read; one that is not there has none.
pub fn names(lxcpath: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(lxcpath) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", lxcpath.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", lxcpath.display()))?.file_name();
        if let Ok(name) = name.into_string()
            && !name.starts_with('.')
            && config_path(lxcpath, &name).is_file()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a configuration with all that it includes. What is wrong in it is told at a start.
///
/// # Errors
/// The file itself cannot be read.
pub fn read(path: &Path) -> Result<Config> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(lxc::parse(Source { name: &path.to_string_lossy(), text: &text }, &mut read_source).0)
}

fn read_source(path: &str) -> Result<Found, String> {
    let told = |error: std::io::Error| error.to_string();
    if !fs::metadata(path).map_err(told)?.is_dir() {
        return fs::read_to_string(path).map(Found::File).map_err(told);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(told)?;
    let files =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "conf"));
    let mut files: Vec<String> = files.map(|path| path.to_string_lossy().into_owned()).collect();
    files.sort_unstable();
    Ok(Found::Folder(files))
}

/// What a configuration says of groups and starts.
#[must_use]
pub fn autostart(config: &Config) -> Autostart {
    let number = |key: &str| config.get(key).map_or("", |setting| setting.value.as_str());
    Autostart {
        auto: config.is_on("lxc.start.auto", false),
        delay: number("lxc.start.delay").parse().unwrap_or(0),
        order: number("lxc.start.order").parse().unwrap_or(0),
        groups: config.all("lxc.group").map(|setting| setting.value.clone()).collect(),
    }
}

/// Whether a container has a user namespace.
#[must_use]
pub fn is_unprivileged(config: &Config) -> bool {
    config.get("lxc.idmap").is_some()
}
