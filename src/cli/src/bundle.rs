//! The bundle that a command works on: where it is and what its definition says.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, bail};

use crate::caller::Caller;

/// Name of the definition in a bundle (bundle.md).
pub const CONFIG: &str = "config.json";

/// A bundle whose definition was read, not judged.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute path of the folder.
    pub dir: String,
    /// Absolute path of the definition.
    pub config: String,
    /// The bytes of the definition.
    pub bytes: Vec<u8>,
}

/// Absolute path of a bundle's folder; `None` is the current one.
#[must_use]
pub fn bundle_dir(caller: &Caller, bundle: Option<&str>) -> String {
    caller.absolute(bundle.unwrap_or("."))
}

/// Reads the definition of a bundle. Both paths are as typed, relative to the current folder.
///
/// # Errors
/// There is no such file, or it cannot be read. The words for the first are runc's.
pub fn read_bundle(caller: &Caller, bundle: Option<&str>, config: Option<&str>) -> anyhow::Result<Bundle> {
    let dir = bundle_dir(caller, bundle);
    // Told of itself: a missing folder is another mistake than a missing definition.
    sys::fs::open_dir(&dir).with_context(|| format!("the bundle {dir} cannot be used"))?;
    let config = config.map_or_else(|| caller.absolute(&format!("{dir}/{CONFIG}")), |file| caller.absolute(file));
    match fs::read(&config) {
        Ok(bytes) => Ok(Bundle { dir, config, bytes }),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("JSON specification file {config} not found"),
        Err(error) => Err(error).with_context(|| format!("cannot read {config}")),
    }
}
