//! The bundle: where it is, what its `config.json` says.

use std::os::fd::AsFd;

use runtime_spec::{ContainerSpec, Finding, Severity};
use sys::fs::OFlags;

use crate::error::{Error, Result};

/// A definition with what belongs to it on disk.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Absolute path of the folder.
    pub path: String,
    /// Absolute path of the root file system, without symbolic links.
    pub rootfs: String,
    /// The bytes of the definition.
    pub config: Vec<u8>,
    /// The definition.
    pub spec: ContainerSpec,
    /// What is odd in it.
    pub warnings: Vec<Finding>,
}

/// Reads a bundle. `config` names the definition's file where it is not `config.json` in the bundle.
///
/// # Errors
/// [`Error::Bundle`] for what cannot be read, [`Error::Invalid`] with all errors of the definition.
pub fn read_bundle(path: &str, config: Option<&str>) -> Result<Bundle> {
    let path = canonical(path, "bundle")?;
    let config = read_config(&path, config)?;
    let report = runtime_spec::load(&config);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        report.findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    let spec = report.spec.ok_or(Error::Invalid(errors))?;
    let given = &spec.root.path;
    let rootfs = if given.starts_with('/') { given.clone() } else { format!("{path}/{given}") };
    let rootfs = canonical(&rootfs, "rootfs")?;
    Ok(Bundle { path, rootfs, config, spec, warnings })
}

/// The bytes of a bundle's definition.
///
/// # Errors
/// [`Error::Bundle`].
pub fn read_config(bundle: &str, config: Option<&str>) -> Result<Vec<u8>> {
    let file = config.map_or_else(|| format!("{bundle}/config.json"), str::to_owned);
    sys::fs::open(&file, OFlags::RDONLY)
        .and_then(|fd| sys::fs::read_all(fd.as_fd()))
        .map_err(|source| Error::Bundle { what: format!("cannot read the definition {file}"), source })
}

fn canonical(path: &str, what: &str) -> Result<String> {
    let fail = |errno| Error::Bundle {
        what: format!("{what} {path:?} cannot be used"),
        source: sys::Error::new(format!("realpath({path:?})"), errno),
    };
    let found = std::fs::canonicalize(path)
        .map_err(|error| fail(error.raw_os_error().map_or(sys::Errno::IO, sys::Errno::from_raw_os_error)))?;
    found.into_os_string().into_string().map_err(|_| fail(sys::Errno::ILSEQ))
}
