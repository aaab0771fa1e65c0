//! The folder of networks on disk.

use super::definition::{Network, validate_network_name};
use super::error::Error;
use super::lease::Leases;
use crate::files::{Folder, Lock};
use crate::spec::hash;

const LOCK: &str = ".lock";
const DEFINITION: &str = ".json";
const LEASES: &str = ".leases";

/// The folder that the rules of most hosts are made from: its table has the plain name.
pub(super) const USUAL: &str = "/var/lib/skep";
/// The name of that table; others have more behind it.
const TABLE: &str = "skep";

/// Where networks are kept.
#[derive(Debug)]
pub struct Store {
    folder: Folder,
    table: String,
}

/// The name of the table of rules for the networks of a data folder: `skep` for `/var/lib/skep`, else that and eight digits
/// made from the path, which is absolute and without links.
#[must_use]
pub fn plan_table(data: &str) -> String {
    if data == USUAL { TABLE.to_owned() } else { format!("{TABLE}-{:08x}", hash(&[data]) >> 32) }
}

impl Store {
    /// Opens the networks of a data folder (mostly `/var/lib/skep`), and makes the folders where they are not there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(data: &str) -> Result<Store, Error> {
        let folder = Folder::open(&format!("{data}/networks"))?;
        // One folder has one table, whichever way leads to it.
        let real = std::fs::canonicalize(data).ok();
        let table = plan_table(real.as_deref().and_then(std::path::Path::to_str).unwrap_or(data));
        Ok(Store { folder, table })
    }

    /// The name of the table of rules.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Waits for the lock of all networks.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        Ok(self.folder.lock(LOCK)?)
    }

    pub(super) fn networks(&self) -> Result<Vec<Network>, Error> {
        let files = self.folder.list()?;
        let names = files.iter().filter_map(|file| file.strip_suffix(DEFINITION));
        // One that is being removed may go between the list and the look.
        let found = names.filter(|name| validate_network_name(name).is_ok()).map(|name| self.network(name));
        found.filter(|network| !matches!(network, Err(Error::Missing { .. }))).collect()
    }

    pub(super) fn network(&self, name: &str) -> Result<Network, Error> {
        let missing = || Error::Missing { name: name.to_owned() };
        validate_network_name(name).map_err(|_| missing())?;
        self.folder.read(&format!("{name}{DEFINITION}"))?.ok_or_else(missing)
    }

    pub(super) fn leases(&self, name: &str) -> Result<Leases, Error> {
        Ok(self.folder.read(&format!("{name}{LEASES}"))?.unwrap_or_default())
    }

    /// All networks with their leases.
    pub(super) fn all(&self) -> Result<Vec<(Network, Leases)>, Error> {
        let with_leases = |network: Network| {
            let leases = self.leases(&network.name)?;
            Ok((network, leases))
        };
        self.networks()?.into_iter().map(with_leases).collect()
    }

    pub(super) fn write_network(&self, network: &Network) -> Result<(), Error> {
        // Leases that an interrupted removal has left are nobody's.
        self.folder.remove(&format!("{}{LEASES}", network.name))?;
        Ok(self.folder.write(&format!("{}{DEFINITION}", network.name), network)?)
    }

    pub(super) fn write_leases(&self, name: &str, leases: &Leases) -> Result<(), Error> {
        Ok(self.folder.write(&format!("{name}{LEASES}"), leases)?)
    }

    pub(super) fn remove_network(&self, name: &str) -> Result<(), Error> {
        // The definition first: without it there is no network, and what is left is removed with the next of its name.
        self.folder.remove(&format!("{name}{DEFINITION}"))?;
        self.folder.remove(&format!("{name}{LEASES}"))?;
        Ok(self.folder.sync()?)
    }
}
