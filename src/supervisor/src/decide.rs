//! What follows from an event: a pure function of the state, the event and the time.
//!
//! ```text
//!            start            Started              not wanted, or a rolling restart
//!   Down ──────────► Starting ───────► Running ─────────────────────────► Stopping ──► Down
//!    ▲                  │ StartFailed    │ Ended                              │
//!    │ not wanted       ▼                ▼                                    ▼ it failed
//!    └────────────── Waiting ◄───── counted ─────► Failed                   Stuck
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::definition::{Definition, Restart};
use crate::state::{Ms, Phase, Replica, Service, State, Target};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A service has this definition from now on.
    Defined(Box<Definition>),
    /// It is forgotten.
    Removed(String),
    /// Somebody wants something.
    Command(String, Command),
    /// Something happened to a replica.
    Of(String, u32, Happened),
    /// A time has come.
    Tick,
    /// All is to end.
    Shutdown,
}

/// What happened to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Its start has succeeded, with this pid.
    Started(u32),
    /// Its start has failed.
    StartFailed(String),
    /// Its process has ended: the pid and how.
    Ended(u32, String),
    /// Its stop has succeeded.
    Stopped,
    /// Its stop has failed.
    StopFailed(String),
    /// The process of this pid is ready, or is so no more.
    Ready(u32, bool),
    /// The process of this pid does not live by its probe.
    NotAlive(u32, String),
}

/// What somebody wants of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Its replicas shall run.
    Start,
    /// None shall.
    Stop,
    /// Each shall begin anew, some at a time.
    Restart,
    /// Nothing is decided for it.
    Freeze,
    /// Things are decided for it again.
    Thaw,
    /// So many replicas.
    Scale(u32),
    /// Replicas that have failed may start again.
    Clear,
    /// A rolling restart goes no further.
    Abort,
}

/// Something to be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The service.
    pub service: String,
    /// The replica.
    pub index: u32,
    /// What is to be done.
    pub what: What,
    /// Why.
    pub reason: String,
}

/// What is to be done with a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Wait until it is started again.
    Wait,
    /// Give it up.
    Fail,
}

impl What {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            What::Start => "start",
            What::Stop => "stop",
            What::Wait => "wait",
            What::Fail => "fail",
        }
    }
}

/// What follows.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The state from now on, with the actions under way in it.
    pub next: State,
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
}

/// Says what follows from an event.
#[must_use]
pub fn decide(state: &State, event: &Event, now: Ms) -> Decision {
    let mut decision = Decision { next: state.clone(), actions: Vec::new() };
    note(&mut decision, event, now);
    // What one service does may let another go on: a service that is down lets those stop that it waited for.
    while settle(&mut decision, now) {}
    decision
}

/// Says why a command makes no sense just now, if it does not.
///
/// # Errors
/// The reason.
pub fn check_command(state: &State, name: &str, command: Command) -> Result<(), String> {
    let Some(service) = state.services.get(name) else { return Err(format!("service {name:?} is not defined")) };
    match command {
        Command::Stop => {
            let wanted = state.dependents(name).filter(|other| state.is_wanted(other));
            let wanted: Vec<&str> = wanted.map(|other| other.definition.name.as_str()).collect();
            if wanted.is_empty() {
                return Ok(());
            }
            Err(format!("service {name:?} is what {} waits for: stop that first", wanted.join(", ")))
        }
        Command::Scale(count) => {
            let (min, _, max) = service.definition.topology.bounds();
            if (min..=max).contains(&count) {
                return Ok(());
            }
            Err(format!("service {name:?} has from {min} to {max} replicas, not {count}"))
        }
        _ => Ok(()),
    }
}

/// Says why a definition cannot be that of a service, if it cannot.
///
/// # Errors
/// The reason.
pub fn check_definition(state: &State, definition: &Definition) -> Result<(), String> {
    if let Some(old) = state.services.get(&definition.name)
        && old.definition.unit != definition.unit
        && (old.is_live() || old.target == Target::Started)
    {
        let name = &definition.name;
        return Err(format!("service {name:?} would be another container: stop and unprovision it first"));
    }
    let mut open: Vec<&str> = definition.depends.iter().map(String::as_str).collect();
    let mut seen: Vec<&str> = Vec::new();
    while let Some(name) = open.pop() {
        if name == definition.name {
            return Err(format!("service {name:?} would wait for itself"));
        }
        if !seen.contains(&name) {
            seen.push(name);
            open.extend(state.services.get(name).iter().flat_map(|s| s.definition.depends.iter().map(String::as_str)));
        }
    }
    Ok(())
}

fn note(decision: &mut Decision, event: &Event, now: Ms) {
    let services = &mut decision.next.services;
    match event {
        Event::Defined(definition) => define(services, definition),
        Event::Removed(name) => drop(services.remove(name)),
        Event::Command(name, command) => {
            if let Some(service) = services.get_mut(name) {
                let actions = note_command(Arc::make_mut(service), *command);
                decision.actions.extend(actions);
            }
        }
        Event::Of(name, index, happened) => {
            let stopping = decision.next.stopping;
            let Some(service) = services.get_mut(name) else { return };
            let service = Arc::make_mut(service);
            let fail = note_replica(service, *index, happened, stopping, now);
            decision.actions.extend(fail);
        }
        Event::Tick => {}
        Event::Shutdown => decision.next.stopping = true,
    }
}

fn define(services: &mut BTreeMap<String, Arc<Service>>, definition: &Definition) {
    match services.get_mut(&definition.name) {
        Some(service) => {
            let service = Arc::make_mut(service);
            let (min, target, max) = definition.topology.bounds();
            // A scale that somebody has asked for is kept, where it may be.
            let asked = service.scale != service.definition.topology.bounds().1;
            service.scale = if asked { service.scale.clamp(min, max) } else { target };
            service.generation += 1;
            service.definition = Arc::new(definition.clone());
            if definition.ready.is_none() {
                let runs = |replica: &&mut Replica| matches!(replica.phase, Phase::Running { .. });
                service.replicas.values_mut().filter(runs).for_each(|replica| replica.ready = true);
            }
        }
        None => {
            services.insert(definition.name.clone(), Arc::new(Service::new(definition.clone(), 1)));
        }
    }
}

fn note_command(service: &mut Service, command: Command) -> Vec<Action> {
    service.generation += 1;
    let roll = service.roll;
    match command {
        Command::Start => service.target = Target::Started,
        Command::Stop => {
            service.target = Target::Stopped;
            return stop_stuck(service);
        }
        Command::Restart => {
            service.target = Target::Started;
            service.roll += 1;
            service.replicas.values_mut().for_each(forgive);
        }
        Command::Freeze => service.frozen = true,
        Command::Thaw => service.frozen = false,
        Command::Scale(count) => service.scale = count,
        Command::Clear => {
            service.replicas.values_mut().for_each(forgive);
            return stop_stuck(service);
        }
        Command::Abort => service.replicas.values_mut().for_each(|replica| replica.roll = roll),
    }
    Vec::new()
}

/// A replica that has failed may start.
fn forgive(replica: &mut Replica) {
    if matches!(replica.phase, Phase::Failed { .. } | Phase::Waiting { .. }) {
        replica.phase = Phase::Down;
    }
    (replica.restarts, replica.streak) = (Vec::new(), 0);
}

/// Tries again to stop replicas that could not be stopped: only an end that is sure lets another begin.
fn stop_stuck(service: &mut Service) -> Vec<Action> {
    if service.frozen {
        return Vec::new();
    }
    let definition = Arc::clone(&service.definition);
    let stuck = service.replicas.iter_mut().filter(|(_, replica)| matches!(replica.phase, Phase::Stuck { .. }));
    let again = |(index, replica): (&u32, &mut Replica)| {
        replica.phase = Phase::Stopping { given_up: None };
        action(&definition, *index, What::Stop, "it could not be stopped before".to_owned())
    };
    stuck.map(again).collect()
}

/// Puts down what happened to a replica; the action is that it has failed or waits.
fn note_replica(service: &mut Service, index: u32, happened: &Happened, stopping: bool, now: Ms) -> Option<Action> {
    let wanted = !stopping && service.target == Target::Started && index < service.scale;
    let definition = Arc::clone(&service.definition);
    let frozen = service.frozen;
    let replica = service.replicas.get_mut(&index)?;
    match (happened, &replica.phase) {
        (Happened::Started(pid), _) => {
            replica.ready = definition.ready.is_none();
            replica.phase = Phase::Running { pid: *pid, since: now };
            return None;
        }
        (Happened::Ready(pid, ready), Phase::Running { pid: of, .. }) if pid == of => {
            replica.ready = *ready;
            return None;
        }
        (Happened::NotAlive(pid, why), Phase::Running { pid: of, .. }) if pid == of && !frozen => {
            replica.phase = Phase::Stopping { given_up: Some(why.clone()) };
            replica.ready = false;
            return Some(action(&definition, index, What::Stop, format!("it does not live: {why}")));
        }
        (Happened::StopFailed(why), Phase::Stopping { .. }) => {
            replica.phase = Phase::Stuck { why: format!("cannot be stopped: {why}") };
            return Some(action(&definition, index, What::Fail, format!("it cannot be stopped: {why}")));
        }
        _ => {}
    }
    let (why, since) = match (happened, &replica.phase) {
        (Happened::Ended(pid, how), Phase::Running { pid: of, since }) if pid == of => (how.clone(), *since),
        (Happened::StartFailed(why), Phase::Starting) => (format!("cannot be started: {why}"), now),
        (Happened::Stopped, Phase::Stopping { given_up: Some(why) }) => (why.clone(), now),
        (Happened::Stopped, Phase::Stopping { given_up: None }) => {
            (replica.phase, replica.ready) = (Phase::Down, false);
            return None;
        }
        // Late news of a process that is known to have ended.
        _ => return None,
    };
    replica.ready = false;
    replica.last = Some(why.clone());
    replica.phase = Phase::Down;
    if !wanted || frozen {
        return None;
    }
    count(replica, &definition, index, &why, since, now)
}

fn action(definition: &Definition, index: u32, what: What, reason: String) -> Action {
    Action { service: definition.name.clone(), index, what, reason }
}

/// Counts an end that nobody asked for: the replica waits for its next start, or has failed.
fn count(replica: &mut Replica, definition: &Definition, index: u32, why: &str, since: Ms, now: Ms) -> Option<Action> {
    let rule = &definition.restart;
    let window = millis(rule.window);
    replica.restarts.retain(|at| now.saturating_sub(*at) < window);
    if replica.restarts.len() >= rule.burst as usize {
        let told = format!(
            "{why}, after {} restarts within {}",
            replica.restarts.len(),
            crate::table::render_span(rule.window)
        );
        replica.phase = Phase::Failed { why: told.clone() };
        return Some(action(definition, index, What::Fail, told));
    }
    let settled = now.saturating_sub(since) >= millis(rule.settle) && now > since;
    replica.streak = if settled { 1 } else { replica.streak.saturating_add(1) };
    replica.restarts.push(now);
    let pause = pause(rule, replica.streak, seed(&definition.name, index, now));
    replica.phase = Phase::Waiting { until: now.saturating_add(pause) };
    (pause > 0).then(|| action(definition, index, What::Wait, format!("{why}; started again in {pause} ms")))
}

fn millis(span: Duration) -> Ms {
    Ms::try_from(span.as_millis()).unwrap_or(Ms::MAX)
}

/// The pause before a start, in milliseconds. `streak` counts from 1.
fn pause(rule: &Restart, streak: u32, seed: u64) -> Ms {
    let Some(doublings) = streak.checked_sub(rule.immediate + 1) else { return 0 };
    let factor = 1u64.checked_shl(doublings).filter(|_| doublings < 40).unwrap_or(1 << 40);
    let pause = millis(rule.backoff).saturating_mul(factor).min(millis(rule.backoff_max));
    // Not a random number, so that the same events have the same outcome.
    pause + pause * u64::from(rule.jitter) * (seed % 1000) / 1_000_000
}

/// FNV-1a: spreads replicas that end in the same millisecond.
fn seed(name: &str, index: u32, now: Ms) -> u64 {
    let bytes = name.bytes().chain(index.to_le_bytes()).chain(now.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Moves each service one step to its target; whether something changed.
fn settle(decision: &mut Decision, now: Ms) -> bool {
    let names: Vec<String> = decision.next.services.keys().cloned().collect();
    let mut changed = false;
    for name in names {
        changed |= fit_replicas(&mut decision.next, &name);
        let indices: Vec<u32> = decision.next.services[&name].replicas.keys().copied().collect();
        for index in indices {
            let Some((phase, act)) = plan_step(&decision.next, &decision.next.services[&name], index, now) else {
                continue;
            };
            let service = Arc::make_mut(decision.next.services.get_mut(&name).expect("it was there a line ago"));
            let roll = service.roll;
            let replica = service.replicas.get_mut(&index).expect("it was there a line ago");
            if phase == Phase::Starting {
                replica.roll = roll;
                if let (Phase::Waiting { .. }, Some(at)) = (&replica.phase, replica.restarts.last_mut()) {
                    // Counted is when it begins, which may be long after its end: it may have been frozen.
                    *at = now;
                }
            }
            (replica.phase, replica.ready) = (phase, false);
            if let Some((what, reason)) = act {
                decision.actions.push(action(&service.definition, index, what, reason));
            }
            changed = true;
        }
    }
    changed
}

/// Gives a service the replicas of its scale, and forgets others that are down; whether something changed.
fn fit_replicas(state: &mut State, name: &str) -> bool {
    let service = &state.services[name];
    let missing = (0..service.scale).any(|index| !service.replicas.contains_key(&index));
    let spare = |index: &u32, replica: &Replica| *index >= service.scale && !replica.phase.is_live();
    let surplus = service.replicas.iter().any(|(index, replica)| spare(index, replica));
    if !missing && !surplus {
        return false;
    }
    let service = Arc::make_mut(state.services.get_mut(name).expect("it was there a line ago"));
    let (scale, roll) = (service.scale, service.roll);
    service.replicas.retain(|index, replica| *index < scale || replica.phase.is_live());
    for index in 0..scale {
        service.replicas.entry(index).or_insert_with(|| Replica::new(roll));
    }
    true
}

/// The next phase of a replica with what is to be done for it; `None` where it stays as it is.
fn plan_step(state: &State, service: &Service, index: u32, now: Ms) -> Option<(Phase, Option<(What, String)>)> {
    if service.frozen {
        return None;
    }
    let replica = &service.replicas[&index];
    let all_wanted = state.is_wanted(service);
    let wanted = all_wanted && index < service.scale;
    match &replica.phase {
        Phase::Down | Phase::Waiting { .. } if wanted => {
            let due = !matches!(replica.phase, Phase::Waiting { until } if until > now);
            if !due || state.lacking(service).is_some() {
                return None;
            }
            let last = replica.last.as_deref().filter(|_| matches!(replica.phase, Phase::Waiting { .. }));
            let reason = last.map_or_else(|| "it shall run".to_owned(), |last| format!("it shall run and {last}"));
            Some((Phase::Starting, Some((What::Start, reason))))
        }
        Phase::Waiting { .. } | Phase::Failed { .. } if !all_wanted => Some((Phase::Down, None)),
        Phase::Running { .. } if !wanted => {
            if !all_wanted && is_held(state, service) {
                return None;
            }
            let reason = if state.stopping {
                "the supervisor ends, and is to stop services then".to_owned()
            } else if all_wanted {
                format!("{} replicas are enough", service.scale)
            } else {
                "it shall be stopped".to_owned()
            };
            Some((Phase::Stopping { given_up: None }, Some((What::Stop, reason))))
        }
        Phase::Running { .. } if replica.roll < service.roll && may_roll(service, replica) => {
            let reason = "it is restarted, with others of its service".to_owned();
            Some((Phase::Stopping { given_up: None }, Some((What::Stop, reason))))
        }
        _ => None,
    }
}

/// Whether a stop has to wait: a service that is to stop, too, needs this one and has processes.
fn is_held(state: &State, service: &Service) -> bool {
    state.dependents(&service.definition.name).any(|other| !state.is_wanted(other) && !other.frozen && other.is_live())
}

/// Whether a rolling restart may take one more replica, this one.
fn may_roll(service: &Service, replica: &Replica) -> bool {
    // One that does no work is taken at no cost.
    if !replica.ready {
        let others = service.replicas.values().filter(|other| !other.ready && other.roll == service.roll).count();
        return others < service.definition.batch as usize;
    }
    let ready = service.ready();
    let away = service.scale.saturating_sub(ready);
    let least = service.definition.topology.bounds().0;
    away < service.definition.batch && (ready > least || service.scale <= least)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
