//! What is known of services and their replicas. Data alone: [`crate::decide`] changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::definition::Definition;

/// Milliseconds since boot.
pub type Ms = u64;

/// All services. A copy is cheap: it shares those that do not change.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// By name.
    pub services: BTreeMap<String, Arc<Service>>,
    /// Everything is to end: no replica is wanted any more.
    pub stopping: bool,
}

/// One service.
#[derive(Debug, Clone)]
pub struct Service {
    /// What it is.
    pub definition: Arc<Definition>,
    /// How often its definition or target was changed.
    pub generation: u64,
    /// What it shall do.
    pub target: Target,
    /// How many replicas it shall have.
    pub scale: u32,
    /// Nothing is decided for it: what runs runs on, what ends stays down.
    pub frozen: bool,
    /// Number of the last rolling restart: replicas of a lower one are to be restarted.
    pub roll: u64,
    /// By number, from 0.
    pub replicas: BTreeMap<u32, Replica>,
}

/// What a service shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Its replicas run.
    Started,
    /// None does.
    Stopped,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it counts.
    pub ready: bool,
    /// The rolling restart that it began with.
    pub roll: u64,
    /// Times of restarts within the window, the oldest first.
    pub restarts: Vec<Ms>,
    /// Ends in a row, none of which came after the time to settle.
    pub streak: u32,
    /// How it ended last.
    pub last: Option<String>,
}

impl Replica {
    /// One that does not run.
    #[must_use]
    pub fn new(roll: u64) -> Replica {
        Replica { phase: Phase::Down, ready: false, roll, restarts: Vec::new(), streak: 0, last: None }
    }
}

/// Where a replica is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It does not run.
    Down,
    /// A start is under way.
    Starting,
    /// It runs.
    Running {
        /// Its first process.
        pid: u32,
        /// Since when.
        since: Ms,
    },
    /// It ended, and is started again at a time.
    Waiting {
        /// That time.
        until: Ms,
    },
    /// A stop is under way.
    Stopping {
        /// It was given up: its end counts as one that nobody asked for, with this reason.
        given_up: Option<String>,
    },
    /// It ended too often.
    Failed {
        /// What is told.
        why: String,
    },
    /// It could not be stopped. Nobody starts it, for it may run.
    Stuck {
        /// What the runtime said.
        why: String,
    },
}

impl Phase {
    /// Whether there may be a process.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } | Phase::Stuck { .. })
    }

    /// In a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Down => "down",
            Phase::Starting => "starting",
            Phase::Running { .. } => "running",
            Phase::Waiting { .. } => "waiting",
            Phase::Stopping { .. } => "stopping",
            Phase::Failed { .. } => "failed",
            Phase::Stuck { .. } => "stuck",
        }
    }
}

impl Service {
    /// One that was just defined.
    #[must_use]
    pub fn new(definition: Definition, generation: u64) -> Service {
        let scale = definition.topology.bounds().1;
        Service {
            definition: Arc::new(definition),
            generation,
            target: Target::Started,
            scale,
            frozen: false,
            roll: 0,
            replicas: BTreeMap::new(),
        }
    }

    /// Replicas that run and count.
    #[must_use]
    pub fn ready(&self) -> u32 {
        let counts = |replica: &&Replica| replica.ready && matches!(replica.phase, Phase::Running { .. });
        u32::try_from(self.replicas.values().filter(counts).count()).unwrap_or(u32::MAX)
    }

    /// Whether it does what others wait for: its fewest replicas are ready.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.ready() >= self.definition.topology.bounds().0.min(self.scale)
    }

    /// Whether a process of it may be there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.replicas.values().any(|replica| replica.phase.is_live())
    }
}

impl State {
    /// Whether replicas of a service shall run at all.
    #[must_use]
    pub fn is_wanted(&self, service: &Service) -> bool {
        !self.stopping && service.target == Target::Started
    }

    /// The next time at which something is due, if nothing happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Ms> {
        let replicas = self.services.values().filter(|service| !service.frozen).flat_map(|s| s.replicas.values());
        let due = replicas.filter_map(|replica| match replica.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        });
        due.min()
    }

    /// Services that wait for this one.
    pub fn dependents<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Service> {
        let waits = move |service: &&Arc<Service>| service.definition.depends.iter().any(|other| other == name);
        self.services.values().filter(waits).map(AsRef::as_ref)
    }

    /// Dependencies that are not there yet, with what they lack.
    #[must_use]
    pub fn lacking(&self, service: &Service) -> Option<String> {
        service.definition.depends.iter().find_map(|name| match self.services.get(name) {
            None => Some(format!("waits for {name}, which is not defined")),
            Some(other) if other.is_available() => None,
            Some(other) => Some(format!("waits for {name}: {} of {} ready", other.ready(), other.scale)),
        })
    }

    /// Why a service is not what it shall be, or that it is.
    #[must_use]
    pub fn why(&self, service: &Service) -> Vec<String> {
        let mut why = Vec::new();
        if service.frozen {
            why.push("it is frozen: nothing is decided for it until thaw".to_owned());
        }
        if !self.is_wanted(service) {
            let holders = self.dependents(&service.definition.name).filter(|other| other.is_live());
            let holders: Vec<&str> = holders.map(|other| other.definition.name.as_str()).collect();
            if service.is_live() && !holders.is_empty() {
                why.push(format!("its stop waits for {}", holders.join(", ")));
            }
        } else if let Some(lacking) = self.lacking(service) {
            why.push(lacking);
        }
        for (index, replica) in &service.replicas {
            let text = match &replica.phase {
                Phase::Failed { why } => format!("{why}; `skep svc clear` starts it again"),
                Phase::Stuck { why } => format!("{why}; `skep svc clear` tries again"),
                Phase::Waiting { .. } => "waits before its next start".to_owned(),
                Phase::Running { .. } if !replica.ready => "runs and is not ready".to_owned(),
                Phase::Running { .. } if replica.roll < service.roll => "its restart is to come".to_owned(),
                _ => continue,
            };
            let last = replica.last.as_ref().map(|last| format!(" (last: {last})")).unwrap_or_default();
            why.push(format!("{}.{index}: {text}{last}", service.definition.name));
        }
        why
    }
}
