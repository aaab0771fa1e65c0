//! Images become layers: compared with what other tools unpack, entry by entry, and with what must not happen.
//!
//! Everything here needs root: owners and devices are kept. Nothing of it drives a runtime.

#[cfg(test)]
mod archive;
#[cfg(test)]
mod bootstrap;
#[cfg(test)]
mod engines;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod place;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod same;
#[cfg(test)]
mod tree;
