//! Images: a name for a stack of layers, and what to run in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use sys::fs::FlockOperation;

use crate::digest::Digest;

use super::{Store, StoreError, at, list, read_record, sync_folder};

/// Longest name of an image, in bytes. Its file name has three for each that is no letter, and may have 255.
const NAME_MAX: usize = 80;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Version of this record.
    pub schema: u32,
    /// Its name here.
    pub name: String,
    /// Its layers by the hash of their uncompressed archives, lowest first.
    pub layers: Vec<Digest>,
    /// What to run and how.
    #[serde(default)]
    pub config: ImageConfig,
    /// The processor that it is for, in Go's words: `amd64`, `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// When it was built, as its maker wrote it (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it came here, in seconds since 1970.
    pub imported: u64,
    /// Where it came from, for people.
    pub source: String,
    /// The hash of its configuration: what docker shows as the image's id. None for a plain archive or a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Digest>,
    /// Bytes that were read to get it, compressed as they came.
    pub compressed_bytes: u64,
    /// Bytes of file content in all layers.
    pub bytes: u64,
}

/// The part of an image's configuration that says what to run.
///
/// OCI image-spec 1.1, config.md, "Properties", `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// The program with its first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments that a caller may replace; the program too where there is no entry point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Where it starts; empty means `/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `user`, `uid`, each with `:group` or `:gid`; empty means root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Folders that are to outlive a container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// `port`, `port/tcp` or `port/udp` that it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
}

/// A name that no image may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for an image: up to {NAME_MAX} letters, digits and . _ - + / : @, a letter or digit first, no \"..\""
)]
pub struct NameError(pub String);

/// Checks the name of an image: what references of registries may have.
///
/// # Errors
/// [`NameError`].
pub fn validate_name(name: &str) -> Result<(), NameError> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+/:@".contains(&byte);
    let good = name.len() <= NAME_MAX
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(inside)
        && !name.contains("..");
    if good { Ok(()) } else { Err(NameError(name.to_owned())) }
}

/// The file name of an image: what no file name may have becomes `%` and two digits.
fn render_file_name(name: &str) -> String {
    let mut file = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => file.push(char::from(byte)),
            _ => file.push_str(&format!("%{byte:02X}")),
        }
    }
    file.push_str(".json");
    file
}

impl Store {
    /// All images, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError`] for a record that cannot be read: an image that is left out would lose its layers.
    pub fn images(&self) -> Result<Vec<Image>, StoreError> {
        let mut images: Vec<Image> = Vec::new();
        for name in list(&self.images_folder())?.iter().filter(|name| name.ends_with(".json")) {
            // None: removed meanwhile.
            images.extend(read_record::<Image>(&self.images_folder().join(name))?);
        }
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The image with this name.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], a name that none can have, or what is wrong with its record.
    pub fn image(&self, name: &str) -> Result<Image, StoreError> {
        validate_name(name)?;
        let image = read_record(&self.images_folder().join(render_file_name(name)))?;
        image.ok_or_else(|| StoreError::NoImage(name.to_owned()))
    }

    /// Removes the name. Its layers stay until garbage is collected.
    ///
    /// # Errors
    /// [`StoreError::NoImage`] or a step that failed.
    pub fn remove_image(&self, name: &str) -> Result<(), StoreError> {
        validate_name(name)?;
        let path = self.images_folder().join(render_file_name(name));
        let _lock = self.lock(FlockOperation::LockShared)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::NoImage(name.to_owned())),
            other => other.map_err(at("remove", &path)).and_then(|()| sync_folder(&self.images_folder())),
        }
    }

    /// Gives an image another name. What had that name before has it no more.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], a name that none can have, or a step that failed.
    pub fn tag_image(&self, name: &str, new: &str) -> Result<Image, StoreError> {
        let image = Image { name: new.to_owned(), ..self.image(name)? };
        let work = super::Work::begin(self)?;
        for diff_id in &image.layers {
            if !work.pin(self, *diff_id)? {
                return Err(StoreError::NoLayer(*diff_id));
            }
        }
        work.commit_image(self, &image)?;
        Ok(image)
    }
}

impl super::Work {
    /// Writes an image whose layers are pinned: beside its place, synced, then renamed to it.
    pub(crate) fn commit_image(&self, store: &Store, image: &Image) -> Result<(), StoreError> {
        validate_name(&image.name)?;
        let from = self.path.join("image.json");
        super::write_record(&from, image)?;
        let to = store.images_folder().join(render_file_name(&image.name));
        fs::rename(&from, &to).map_err(at("rename an image to", &to))?;
        sync_folder(&store.images_folder())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_references() {
        for name in ["debian", "debian:12", "registry.example:5000/a/b@sha256:00", "A_b-c.d+e"] {
            assert_eq!(validate_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "-x", "/a", "a/../b", "a b", "é", "a\n", "a\0", &"x".repeat(81)] {
            assert!(validate_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn file_names_are_as_different_as_names() {
        assert_eq!(render_file_name("a/b:1@x+y"), "a%2Fb%3A1%40x%2By.json");
        assert!(render_file_name(&"/".repeat(NAME_MAX)).len() <= 255);
    }
}
