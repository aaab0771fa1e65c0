//! What is kept: services, replicas and the audit log, in one file that survives a kill at any write and a full disk.
//!
//! Plain tables of redb, each change on disk before it is answered; no savepoints. The file is locked: one supervisor has it.
//!
//! ```text
//! services.redb
//!   services   name     -> JSON of a ServiceRecord
//!   replicas   name.I   -> JSON of a ReplicaRecord
//!   audit      revision -> JSON of an Entry
//!   meta       "boot"   -> the boot that times since boot belong to
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::audit::Entry;
use crate::definition::Definition;
use crate::state::{Ms, Target};

const SERVICES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("services");
const REPLICAS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("replicas");
const AUDIT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("audit");
const META: TableDefinition<'static, &str, &str> = TableDefinition::new("meta");
const BOOT: &str = "boot";
/// The file in the state folder.
pub const FILE: &str = "services.redb";
/// Entries that the audit log keeps; older ones go.
const AUDIT_MAX: u64 = 100_000;
/// Memory for pages of the file, in bytes: it has few of them.
const CACHE: usize = 1 << 20;

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("cannot use folder {0}")]
    Folder(PathBuf, #[source] std::io::Error),
    /// The file cannot be opened.
    #[error("cannot open {0}")]
    Open(PathBuf, #[source] Box<redb::Error>),
    /// The file cannot be read or written.
    #[error("cannot {0} {1}")]
    Use(&'static str, PathBuf, #[source] Box<redb::Error>),
    /// What it has makes no sense.
    #[error("cannot read {1} in table {0}")]
    Content(&'static str, String, #[source] serde_json::Error),
    /// An export cannot be read or written.
    #[error("cannot pass on the export")]
    Export(#[source] std::io::Error),
}

/// What is kept of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What it is.
    pub definition: Definition,
    /// As in the state.
    pub generation: u64,
    /// As in the state.
    pub target: Target,
    /// As in the state.
    pub scale: u32,
    /// As in the state.
    pub frozen: bool,
    /// As in the state.
    pub roll: u64,
}

/// What is kept of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// As in the state.
    pub roll: u64,
    /// As in the state.
    pub restarts: Vec<Ms>,
    /// As in the state.
    pub streak: u32,
    /// As in the state.
    pub last: Option<String>,
    /// Why it has failed.
    pub failed: Option<String>,
    /// Why nobody knows whether it has stopped.
    #[serde(default)]
    pub stuck: Option<String>,
}

/// Something that is to be kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A service.
    Service(Box<ServiceRecord>),
    /// A service is forgotten, with its replicas.
    Removed(String),
    /// A replica, by service and number.
    Replica(String, u32, ReplicaRecord),
    /// An entry of the audit log.
    Audit(Entry),
    /// The boot that times belong to.
    Boot(String),
}

/// All that is kept but the audit log.
#[derive(Debug, Default)]
pub struct Kept {
    /// The services.
    pub services: Vec<ServiceRecord>,
    /// The replicas, by service and number.
    pub replicas: Vec<(String, u32, ReplicaRecord)>,
    /// The last revision of the audit log.
    pub revision: u64,
    /// The boot that times belong to.
    pub boot: Option<String>,
}

/// The file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None` after a write that failed: the file is opened again, which repairs it.
    file: Option<Database>,
}

impl Store {
    /// Opens the store of a state folder, which is made where it is missing.
    ///
    /// # Errors
    /// The folder or file cannot be used; another process has it.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(folder).map_err(|error| StoreError::Folder(folder.to_owned(), error))?;
        let path = folder.join(FILE);
        let file = open(&path)?;
        let mut store = Store { path, file: Some(file) };
        // So that each table is there for readers.
        store.commit(&[])?;
        Ok(store)
    }

    /// Makes changes, all or none; they are on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written; nothing has changed.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        write(&file, changes).map_err(|error| StoreError::Use("write", self.path.clone(), Box::new(error)))?;
        self.file = Some(file);
        Ok(())
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        let answer = file.begin_read().map_err(redb::Error::from).and_then(|transaction| read(&transaction));
        self.file = Some(file);
        answer.map_err(|error| StoreError::Use("read", self.path.clone(), Box::new(error)))
    }

    /// Reads all that is kept but the audit log.
    ///
    /// # Errors
    /// The file cannot be read, or has something that makes no sense.
    pub fn load(&mut self) -> Result<Kept, StoreError> {
        let (services, replicas, revision, boot) = self.read(|transaction| {
            let services = pairs(&transaction.open_table(SERVICES)?)?;
            let replicas = pairs(&transaction.open_table(REPLICAS)?)?;
            let revision = transaction.open_table(AUDIT)?.last()?.map_or(0, |(key, _)| key.value());
            let boot = transaction.open_table(META)?.get(BOOT)?.map(|value| value.value().to_owned());
            Ok((services, replicas, revision, boot))
        })?;
        let services = services.into_iter().map(|(name, bytes)| {
            serde_json::from_slice(&bytes).map_err(|error| StoreError::Content("services", name, error))
        });
        let replicas = replicas.into_iter().filter_map(|(key, bytes)| {
            let (name, index) = key.rsplit_once('.')?;
            let (name, index) = (name.to_owned(), index.parse().ok()?);
            let record = serde_json::from_slice(&bytes).map_err(|error| StoreError::Content("replicas", key, error));
            Some(record.map(|record| (name, index, record)))
        });
        Ok(Kept {
            services: services.collect::<Result<_, _>>()?,
            replicas: replicas.collect::<Result<_, _>>()?,
            revision,
            boot,
        })
    }

    /// Entries of the audit log after a revision, the oldest first, at most so many.
    ///
    /// # Errors
    /// The file cannot be read, or has something that makes no sense.
    pub fn audit(&mut self, after: u64, most: usize) -> Result<Vec<Entry>, StoreError> {
        let entries = self.read(|transaction| {
            let table = transaction.open_table(AUDIT)?;
            let range = table.range(after.saturating_add(1)..)?.take(most);
            range
                .map(|entry| entry.map(|(key, value)| (key.value(), value.value().to_vec())))
                .collect::<Result<Vec<_>, _>>()
                .map_err(redb::Error::from)
        })?;
        let parse = |(key, bytes): (u64, Vec<u8>)| {
            serde_json::from_slice(&bytes).map_err(|error| StoreError::Content("audit", key.to_string(), error))
        };
        entries.into_iter().map(parse).collect()
    }

    /// Writes all that is kept as JSON, one change a line.
    ///
    /// # Errors
    /// The file cannot be read, or `into` not be written.
    pub fn export(&mut self, into: &mut impl Write) -> Result<(), StoreError> {
        let kept = self.load()?;
        let mut changes: Vec<Change> = kept.boot.into_iter().map(Change::Boot).collect();
        changes.extend(kept.services.into_iter().map(|record| Change::Service(Box::new(record))));
        changes.extend(kept.replicas.into_iter().map(|(name, index, record)| Change::Replica(name, index, record)));
        changes.extend(self.audit(0, usize::MAX)?.into_iter().map(Change::Audit));
        for change in changes {
            let line = serde_json::to_string(&change).map_err(|error| StoreError::Export(error.into()))?;
            writeln!(into, "{line}").map_err(StoreError::Export)?;
        }
        Ok(())
    }

    /// Makes the changes that an export has, all or none.
    ///
    /// # Errors
    /// A line is no change, or the file cannot be written.
    pub fn import(&mut self, text: &str) -> Result<usize, StoreError> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let changes: Vec<Change> = lines
            .map(|line| serde_json::from_str(line).map_err(|error| StoreError::Export(error.into())))
            .collect::<Result<_, _>>()?;
        self.commit(&changes)?;
        Ok(changes.len())
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let opened = Database::builder().set_cache_size(CACHE).create(path);
    opened.map_err(|error| StoreError::Open(path.to_owned(), Box::new(error.into())))
}

fn pairs(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let pairs = table.iter()?.map(|pair| pair.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())));
    pairs.collect::<Result<_, _>>().map_err(redb::Error::from)
}

fn write(file: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let mut transaction = file.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    make(&transaction, changes)?;
    transaction.commit()?;
    Ok(())
}

fn make(transaction: &WriteTransaction, changes: &[Change]) -> Result<(), redb::Error> {
    let mut services = transaction.open_table(SERVICES)?;
    let mut replicas = transaction.open_table(REPLICAS)?;
    let mut audit = transaction.open_table(AUDIT)?;
    let mut meta = transaction.open_table(META)?;
    for change in changes {
        match change {
            Change::Service(record) => {
                services.insert(record.definition.name.as_str(), bytes(record).as_slice())?;
            }
            Change::Removed(name) => {
                services.remove(name.as_str())?;
                // No name has a dot, and what follows it in the order of bytes is a slash.
                replicas.retain_in(format!("{name}.").as_str()..format!("{name}/").as_str(), |_, _| false)?;
            }
            Change::Replica(name, index, record) => {
                replicas.insert(format!("{name}.{index}").as_str(), bytes(record).as_slice())?;
            }
            Change::Audit(entry) => {
                audit.insert(entry.revision, bytes(entry).as_slice())?;
                // Now and then, for it costs a walk.
                if entry.revision % 1000 == 0 {
                    audit.retain_in(..entry.revision.saturating_sub(AUDIT_MAX), |_, _| false)?;
                }
            }
            Change::Boot(boot) => {
                meta.insert(BOOT, boot.as_str())?;
            }
        }
    }
    Ok(())
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and lists always have a form in JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::parse;

    fn service(name: &str) -> Change {
        let definition = parse(&format!("name = \"{name}\"\ncontainer.from = \"x\"")).unwrap();
        let (target, scale) = (Target::Started, 1);
        Change::Service(Box::new(ServiceRecord { definition, generation: 1, target, scale, frozen: false, roll: 0 }))
    }

    fn entry(revision: u64) -> Change {
        let text = String::from;
        let (who, service, what, why) = (text("uid 0"), text("a"), text("start"), text("asked"));
        Change::Audit(Entry { revision, at: 1, who, service, replica: None, what, why })
    }

    #[test]
    fn what_is_kept_is_found_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let record = ReplicaRecord { streak: 2, failed: Some("too often".to_owned()), ..ReplicaRecord::default() };
        let changes = [service("a"), service("a-b"), Change::Replica("a".to_owned(), 3, record.clone()), entry(7)];
        Store::open(dir.path()).unwrap().commit(&changes).unwrap();

        let mut store = Store::open(dir.path()).unwrap();
        let kept = store.load().unwrap();
        let names: Vec<&str> = kept.services.iter().map(|record| record.definition.name.as_str()).collect();
        assert_eq!((names, kept.revision), (vec!["a", "a-b"], 7));
        assert_eq!(kept.replicas, [("a".to_owned(), 3, record)]);
        assert_eq!(store.audit(6, 10).unwrap()[0].who, "uid 0");
        assert_eq!(store.audit(7, 10).unwrap(), []);
    }

    #[test]
    fn a_service_goes_with_its_replicas_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let replica = |name: &str| Change::Replica(name.to_owned(), 0, ReplicaRecord::default());
        store.commit(&[service("a"), replica("a"), replica("a-b"), replica("ab"), replica("a0")]).unwrap();
        store.commit(&[Change::Removed("a".to_owned())]).unwrap();
        let kept = store.load().unwrap();
        let names: Vec<&str> = kept.replicas.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!((kept.services.len(), names), (0, vec!["a-b", "a0", "ab"]));
    }

    #[test]
    fn one_supervisor_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Open(..)), "{error:?}");
    }

    #[test]
    fn an_export_makes_the_same_store() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = Store::open(here.path()).unwrap();
        let boot = Change::Boot("b".to_owned());
        store
            .commit(&[service("a"), boot, Change::Replica("a".to_owned(), 0, ReplicaRecord::default()), entry(1)])
            .unwrap();
        let mut lines = Vec::new();
        store.export(&mut lines).unwrap();
        let mut copy = Store::open(there.path()).unwrap();
        assert_eq!(copy.import(std::str::from_utf8(&lines).unwrap()).unwrap(), 4);
        let mut again = Vec::new();
        copy.export(&mut again).unwrap();
        assert_eq!(String::from_utf8(lines), String::from_utf8(again));
        copy.import("{\"service\":1}\n").unwrap_err();
    }
}
