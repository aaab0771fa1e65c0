//! The folder of networks on disk.

use super::definition::{Network, validate_network_name};
use super::error::Error;
use super::lease::Leases;
use crate::files::{Folder, Lock};

const LOCK: &str = ".lock";
const DEFINITION: &str = ".json";
const LEASES: &str = ".leases";

/// Where networks are kept.
#[derive(Debug)]
pub struct Store(Folder);

impl Store {
    /// Opens the networks of a data folder (mostly `/var/lib/skep`), and makes the folders where they are not there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(data: &str) -> Result<Store, Error> {
        Ok(Store(Folder::open(&format!("{data}/networks"))?))
    }

    /// Waits for the lock of all networks.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        Ok(self.0.lock(LOCK)?)
    }

    pub(super) fn networks(&self) -> Result<Vec<Network>, Error> {
        let files = self.0.list()?;
        let names = files.iter().filter_map(|file| file.strip_suffix(DEFINITION));
        // One that is being removed may go between the list and the look.
        let found = names.filter(|name| validate_network_name(name).is_ok()).map(|name| self.network(name));
        found.filter(|network| !matches!(network, Err(Error::Missing { .. }))).collect()
    }

    pub(super) fn network(&self, name: &str) -> Result<Network, Error> {
        let missing = || Error::Missing { name: name.to_owned() };
        validate_network_name(name).map_err(|_| missing())?;
        self.0.read(&format!("{name}{DEFINITION}"))?.ok_or_else(missing)
    }

    pub(super) fn leases(&self, name: &str) -> Result<Leases, Error> {
        Ok(self.0.read(&format!("{name}{LEASES}"))?.unwrap_or_default())
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
        self.0.remove(&format!("{}{LEASES}", network.name))?;
        Ok(self.0.write(&format!("{}{DEFINITION}", network.name), network)?)
    }

    pub(super) fn write_leases(&self, name: &str, leases: &Leases) -> Result<(), Error> {
        Ok(self.0.write(&format!("{name}{LEASES}"), leases)?)
    }

    pub(super) fn remove_network(&self, name: &str) -> Result<(), Error> {
        // The definition first: without it there is no network, and what is left is removed with the next of its name.
        self.0.remove(&format!("{name}{DEFINITION}"))?;
        self.0.remove(&format!("{name}{LEASES}"))?;
        Ok(self.0.sync()?)
    }
}
