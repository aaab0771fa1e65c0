//! The bundle: where it is, what its `config.json` says.

use runtime_spec::{ContainerSpec, Finding, Severity};

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

/// Judges the definition of a bundle and finds its root file system.
///
/// # Errors
/// [`Error::Invalid`] with all errors of the definition, [`Error::Bundle`] for folders that are not there.
pub fn judge_bundle(path: &str, config: Vec<u8>) -> Result<Bundle> {
    let path = canonical(path, "bundle")?;
    let report = runtime_spec::load(&config);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        report.findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    let spec = report.spec.ok_or(Error::Invalid(errors))?;
    let given = &spec.root.path;
    let rootfs = if given.starts_with('/') { given.clone() } else { format!("{path}/{given}") };
    let rootfs = canonical(&rootfs, "rootfs")?;
    Ok(Bundle { path, rootfs, config, spec, warnings })
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
