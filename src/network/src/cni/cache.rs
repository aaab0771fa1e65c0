//! What was made, on disk: one file for each attachment.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plugin::Paths;
use super::{Attachment, Error};
use crate::files::{Folder, Lock};

/// An attachment as the cache has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cached {
    /// The container, its namespace and the link.
    pub attachment: Attachment,
    /// The configuration list that it was made with.
    pub list: Value,
    /// Folders of plugins that it was made with.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// The last plugin's result; None while ADD is under way, or where it was interrupted.
    pub result: Option<Value>,
}

/// Reads all attachments of a cache.
pub(super) fn read_all(cache: &str) -> Result<Vec<Cached>, Error> {
    let folder = Folder::open(cache)?;
    let files = folder.list()?.into_iter().filter(|file| file.ends_with(".json"));
    files.filter_map(|file| folder.read(&file).transpose()).map(|cached| Ok(cached?)).collect()
}

/// The attachments of one network; others wait until it is dropped.
pub(super) struct Cache<'a> {
    folder: Folder,
    network: &'a str,
    _lock: Lock,
}

impl<'a> Cache<'a> {
    /// Waits until nobody else works on the network.
    pub(super) fn lock(paths: &Paths, network: &'a str) -> Result<Cache<'a>, Error> {
        let folder = Folder::open(&paths.cache)?;
        let lock = folder.lock(&format!(".{network}.lock"))?;
        Ok(Cache { folder, network, _lock: lock })
    }

    /// The length in front: names may have the sign that parts them.
    fn prefix(&self) -> String {
        format!("{}.{}-", self.network.len(), self.network)
    }

    fn file(&self, attachment: &Attachment) -> String {
        format!("{}{}-{}.json", self.prefix(), attachment.container, attachment.link)
    }

    pub(super) fn read(&self, attachment: &Attachment) -> Result<Option<Cached>, Error> {
        Ok(self.folder.read(&self.file(attachment))?)
    }

    pub(super) fn all(&self) -> Result<Vec<Cached>, Error> {
        let prefix = self.prefix();
        let files = self.folder.list()?.into_iter().filter(|file| file.starts_with(&prefix));
        files.filter_map(|file| self.folder.read(&file).transpose()).map(|cached| Ok(cached?)).collect()
    }

    pub(super) fn write(&self, cached: &Cached) -> Result<(), Error> {
        Ok(self.folder.write(&self.file(&cached.attachment), cached)?)
    }

    pub(super) fn remove(&self, attachment: &Attachment) -> Result<(), Error> {
        Ok(self.folder.remove(&self.file(attachment))?)
    }
}
