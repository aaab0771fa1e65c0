//! Containers that are defined once and then started, stopped, listed and destroyed by name.
//!
//! `skep` hands over to this program when a verb is its: a person or a script types `skep create NAME --from …`, as in
//! docs/containers.md. It owns the data folder, and drives `skep` itself, by its command line and its JSON, for everything
//! that a kernel has to do for a container. It starts nothing in a namespace, and mounts nothing but a network namespace on a
//! file (see cni).
//!
//! ```text
//! args -> run -> ops/* ──► definition (on disk)     what a container is
//!                   ├────► base                     what its root file system is made of
//!                   ├────► bundle (pure)            definition + base + addresses -> config.json
//!                   ├────► system                   what a whole system has besides, and what asks its init to end
//!                   └────► runtime                  skep run, state, kill, delete
//!
//! data folder (/var/lib/skep):
//!   containers/NAME/definition.toml   what it is: see document, and docs/definition.md
//!   containers/NAME/own/upper, work   what the container changed; only root may look into own
//!   containers/NAME/config.json       the bundle of the last start
//!   containers/NAME/snapshots         which frozen changes it had: see snapshots
//!   containers/NAME/pending.json      a change of several steps that is under way: see pending
//!   containers/NAME/rootfs            where the layers are mounted, inside the container alone
//!   containers/NAME/own/run-ID/added.json   what was added since the start: see added
//!   containers/NAME/own/run.json      the run that is under way, with its folder own/run-ID: see runs
//!   containers/NAME/own/last.json     how the last one ended
//!   containers/NAME/log               what the container wrote to its standard output and error
//!   containers/.NAME.XXXX             one that is being made or removed: finished or taken away at the next command
//!   changes/ID                        frozen changes: see changes
//!   templates/NAME                    versions of a template: see template
//!   networks, uplinks                 networks with their leases, and devices that containers share: see the crate network
//!   cni                               what CNI plugins have made, and network namespaces that are held: see cni
//! ```

pub mod added;
pub mod args;
pub mod args_config;
pub mod args_kept;
pub mod args_list;
pub mod args_live;
pub mod args_network;
pub mod args_running;
pub mod base;
pub mod bundle;
pub mod cgroup_file;
pub mod changes;
pub mod cni;
pub mod copied;
pub mod definition;
pub mod diff;
pub mod document;
pub mod host;
pub mod judge;
pub mod keys;
pub mod links;
pub mod lxc;
pub mod monitor;
pub mod mounted;
pub mod ops;
pub mod output;
pub mod pending;
pub mod places;
pub mod progress;
pub mod quota;
pub mod rootless;
pub mod run;
pub mod runs;
pub mod runtime;
pub mod screen;
pub mod seccomp;
pub mod share;
pub mod size;
pub mod snapshots;
pub mod system;
pub mod template;
pub mod trace;
pub mod validate;
pub mod view;
