//! Where images come from: what each form of them says about its layers.
//!
//! Documents are read and judged here, layers are only named: [`Files`] opens them later, several at a time.

pub(crate) mod docker;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod oci;
pub(crate) mod probe;

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::{Digest, DigestError};
use crate::limits::LimitError;
use crate::store::ImageConfig;

pub(crate) use files::Files;

/// Which image of several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// A name, a tag or a digest. None takes the only image that there is.
    pub reference: Option<String>,
    /// The machine that it shall run on. None means this one.
    pub platform: Option<Platform>,
}

/// A machine, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `riscv64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7` of `arm`, `v8` of `arm64`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// The machine that this program was built for.
    #[must_use]
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// Whether what is offered runs on this machine. A variant counts where both name one.
    fn accepts(&self, offered: &Platform) -> bool {
        let variant = match (&self.variant, &offered.variant) {
            (Some(wanted), Some(offered)) => wanted == offered,
            _ => true,
        };
        self.os == offered.os && self.architecture == offered.architecture && variant
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not there.
    #[error("there is no {0} in it")]
    Missing(String),
    /// A document is not what it should be.
    #[error("{name} is malformed")]
    Document {
        /// Which.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file has another length or hash than the document that names it says.
    #[error("{name} is not what its name says: {found}")]
    Content {
        /// Which.
        name: String,
        /// Its hash, or its length.
        found: String,
    },
    /// A digest is malformed or of another algorithm.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Nothing has the name that was asked for.
    #[error("there is no image {wanted:?} in it{}", among(.found))]
    NoReference {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// There are several, and none was asked for.
    #[error("it has several images{}: one has to be named", among(.0))]
    Several(Vec<String>),
    /// There is no image for the machine.
    #[error("it has no image for {wanted}{}", among(.found))]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// The documents contradict each other.
    #[error("its configuration has {diff_ids} layers and its manifest {layers}")]
    Layers {
        /// By the configuration.
        diff_ids: usize,
        /// By the manifest.
        layers: usize,
    },
    /// Something that is known but not done.
    #[error("{0}")]
    Unsupported(String),
    /// A bound was passed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// It is an archive and cannot be read as one.
    #[error(transparent)]
    Tar(#[from] crate::tar::TarError),
}

fn among(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// What an image is, before its layers are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Lowest first.
    pub(crate) layers: Vec<PlannedLayer>,
    pub(crate) config: ImageConfig,
    pub(crate) architecture: Option<String>,
    pub(crate) created: Option<String>,
    /// Hash of the configuration.
    pub(crate) id: Digest,
}

/// A layer of an image that has not been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedLayer {
    /// What [`Files`] opens.
    pub(crate) file: String,
    /// Hash of that file.
    pub(crate) digest: Option<Digest>,
    /// Its length in bytes.
    pub(crate) size: Option<u64>,
    pub(crate) diff_id: Digest,
}

/// The configuration of an image, as far as it is used. Go writes `null` for what is empty.
#[derive(Debug, Deserialize)]
pub(super) struct RawConfig {
    architecture: Option<String>,
    os: Option<String>,
    created: Option<String>,
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Debug, Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

/// Joins a configuration with the layers of a manifest.
pub(super) fn make_plan(
    config: RawConfig,
    id: Digest,
    layers: Vec<(String, Option<Digest>, Option<u64>)>,
) -> Result<Plan, SourceError> {
    if config.os.as_deref().is_some_and(|os| os != "linux" && !os.is_empty()) {
        let os = config.os.unwrap_or_default();
        return Err(SourceError::Unsupported(format!("it is an image for {os}: those for linux are read")));
    }
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers.len() {
        return Err(SourceError::Layers { diff_ids: diff_ids.len(), layers: layers.len() });
    }
    let joined = layers.into_iter().zip(diff_ids);
    let run = config.config.unwrap_or_default();
    let keys = |map: Option<BTreeMap<String, serde_json::Value>>| map.unwrap_or_default().into_keys().collect();
    Ok(Plan {
        layers: joined.map(|((file, digest, size), diff_id)| PlannedLayer { file, digest, size, diff_id }).collect(),
        config: ImageConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            labels: run.labels.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: keys(run.volumes),
            exposed_ports: keys(run.exposed_ports),
        },
        architecture: config.architecture.filter(|architecture| !architecture.is_empty()),
        created: config.created,
        id,
    })
}

pub(super) fn parse_document<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|source| SourceError::Document { name: name.to_owned(), source })
}

/// The hash of bytes that are in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}
