//! The folder of networks on disk.

use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::Errno;
use sys::fs::{self, FileType, FlockOperation, OFlags};

use super::definition::{Network, validate_network_name};
use super::error::Error;
use super::lease::Leases;

const LOCK: &str = ".lock";
const DEFINITION: &str = ".json";
const LEASES: &str = ".leases";

/// Where networks are kept.
#[derive(Debug)]
pub struct Store {
    dir: OwnedFd,
    path: String,
}

/// Held while something is changed; dropping it, or the end of the process, lets go.
#[derive(Debug)]
pub(super) struct Lock {
    _held: OwnedFd,
}

impl Store {
    /// Opens the networks of a data folder (mostly `/var/lib/skep`), and makes the folders where they are not there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(data: &str) -> Result<Store, Error> {
        let path = format!("{data}/networks");
        for (position, _) in path.match_indices('/').skip_while(|(position, _)| *position == 0) {
            make_dir(&path[..position], 0o755)?;
        }
        make_dir(&path, 0o700)?;
        Ok(Store { dir: fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY)?, path })
    }

    /// Waits for the lock of all networks.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW;
        let held = fs::open_at(self.dir.as_fd(), LOCK, flags, 0o600)?;
        fs::flock(held.as_fd(), FlockOperation::LockExclusive)?;
        Ok(Lock { _held: held })
    }

    pub(super) fn networks(&self) -> Result<Vec<Network>, Error> {
        let files = fs::list(self.dir.as_fd(), ".")?;
        let names = files.iter().filter(|(_, kind)| *kind == FileType::RegularFile);
        let mut names: Vec<&str> = names.filter_map(|(file, _)| file.strip_suffix(DEFINITION)).collect();
        names.retain(|name| validate_network_name(name).is_ok());
        names.sort_unstable();
        // One that is being removed may go between the list and the look.
        let found = names.into_iter().map(|name| self.network(name));
        found.filter(|network| !matches!(network, Err(Error::Missing { .. }))).collect()
    }

    pub(super) fn network(&self, name: &str) -> Result<Network, Error> {
        let missing = || Error::Missing { name: name.to_owned() };
        validate_network_name(name).map_err(|_| missing())?;
        self.read(&format!("{name}{DEFINITION}"))?.ok_or_else(missing)
    }

    pub(super) fn leases(&self, name: &str) -> Result<Leases, Error> {
        Ok(self.read(&format!("{name}{LEASES}"))?.unwrap_or_default())
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
        self.unlink(&format!("{}{LEASES}", network.name))?;
        self.write(&format!("{}{DEFINITION}", network.name), network)
    }

    pub(super) fn write_leases(&self, name: &str, leases: &Leases) -> Result<(), Error> {
        self.write(&format!("{name}{LEASES}"), leases)
    }

    pub(super) fn remove_network(&self, name: &str) -> Result<(), Error> {
        // The definition first: without it there is no network, and what is left is removed with the next of its name.
        self.unlink(&format!("{name}{DEFINITION}"))?;
        self.unlink(&format!("{name}{LEASES}"))?;
        Ok(fs::fsync(self.dir.as_fd())?)
    }

    fn read<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, Error> {
        let bytes = match fs::read_at(self.dir.as_fd(), file) {
            Err(error) if error.is(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let damaged = |source| Error::Damaged { path: format!("{}/{file}", self.path), source };
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Replaces a file as a whole: what a crash leaves is the old one or the new one.
    fn write<T: Serialize>(&self, file: &str, value: &T) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec_pretty(value).expect("plain data with text keys");
        bytes.push(b'\n');
        let new = format!(".{file}.new");
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW;
        let open = fs::open_at(self.dir.as_fd(), &new, flags, 0o600)?;
        fs::write_all(open.as_fd(), &bytes)?;
        fs::fsync(open.as_fd())?;
        fs::rename_at(self.dir.as_fd(), &new, self.dir.as_fd(), file)?;
        Ok(fs::fsync(self.dir.as_fd())?)
    }

    fn unlink(&self, file: &str) -> Result<(), Error> {
        match fs::unlink_at(self.dir.as_fd(), file) {
            Err(error) if !error.is(Errno::NOENT) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn make_dir(path: &str, mode: u32) -> Result<(), Error> {
    match fs::mkdir_at(fs::CWD, path, mode) {
        Err(error) if !error.is(Errno::EXIST) => Err(error.into()),
        _ => Ok(()),
    }
}
