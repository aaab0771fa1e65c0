//! The task that owns the state: it takes in what happens, has [`crate::decide`] say what follows, and has that done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::audit::Entry;
use crate::clock::{Clock, read_boot, unix_ms};
use crate::decide::{Action, Command, Event, Happened, What, check_command, check_definition, decide};
use crate::definition::{Definition, parse};
use crate::log::tell;
use crate::probe;
use crate::render::service_json;
use crate::runtime::{Process, Runtime, container};
use crate::state::{Phase, Replica, Service, State, Target};
use crate::store::{Change, Kept, ReplicaRecord, ServiceRecord, Store};
use crate::writer::{Writer, lock};

/// Entries that stand ready for those who follow events.
const RING: usize = 2048;
/// Who decides by itself.
const OWN: &str = "skepd";

/// What becomes of containers when this program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnExit {
    /// They run on, and the next one adopts them.
    Leave,
    /// They are stopped, dependents first.
    Stop,
}

/// What the task is told.
#[derive(Debug)]
pub enum Input {
    /// Something happened.
    Event(Event),
    /// Something is wanted, by somebody who waits for the answer.
    Ask(String, Ask, oneshot::Sender<Answer>),
    /// Somebody wants to follow what happens after a revision.
    Follow(u64, oneshot::Sender<Followed>),
    /// A death was seen to be for want of memory.
    Oom(String, u32),
    /// Definitions in files are to be read again.
    Reload,
    /// The program is to end.
    End,
}

/// What somebody wants.
#[derive(Debug)]
pub enum Ask {
    /// All services.
    List,
    /// One.
    Show(String),
    /// A definition, as TOML, and the generation that it replaces if that matters.
    Put(String, String, Option<u64>),
    /// A service is to be forgotten.
    Delete(String),
    /// A service is to be led elsewhere.
    Command(String, Command),
    /// Containers are to be defined, or removed.
    Provision(String, bool),
    /// Definitions in files are to be read again.
    Reload,
}

/// What is answered.
pub type Answer = Result<Value, Refusal>;

/// Why something is not done.
#[derive(Debug)]
pub struct Refusal {
    /// The status of HTTP that says so.
    pub status: u16,
    /// The reason.
    pub text: String,
}

impl Refusal {
    /// One with a status.
    pub fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }
}

/// What a follower gets: entries that are kept ready, and all that come.
pub type Followed = (Vec<Arc<Entry>>, broadcast::Receiver<Arc<Entry>>);

/// How the program is to work.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of definitions.
    pub services: PathBuf,
    /// What becomes of containers at the end.
    pub on_exit: OnExit,
}

/// The task.
#[derive(Debug)]
pub struct Daemon {
    state: State,
    clock: Clock,
    runtime: Arc<Runtime>,
    writer: Writer,
    options: Options,
    inputs: mpsc::UnboundedSender<Input>,
    ring: VecDeque<Arc<Entry>>,
    followers: broadcast::Sender<Arc<Entry>>,
    revision: u64,
    probes: HashMap<(String, u32), Vec<AbortHandle>>,
    kept: BTreeMap<(String, u32), ReplicaRecord>,
}

impl Daemon {
    /// Reads what is kept. Nothing is started yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        mut store: Store,
        runtime: Runtime,
        options: Options,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Result<Daemon> {
        let kept = store.load().context("cannot read what is kept of services")?;
        let boot = read_boot()?;
        let same_boot = kept.boot.as_deref() == Some(boot.as_str());
        let revision = kept.revision;
        let state = restore(kept, same_boot);
        if !same_boot {
            store.commit(&[Change::Boot(boot)]).context("cannot put down this boot")?;
        }
        Ok(Daemon {
            state,
            clock: Clock::read()?,
            runtime: Arc::new(runtime),
            writer: Writer::new(store),
            options,
            inputs,
            ring: VecDeque::new(),
            followers: broadcast::Sender::new(RING),
            revision,
            probes: HashMap::new(),
            kept: BTreeMap::new(),
        })
    }

    /// For those who read the store beside this task.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Adopts what runs. Until this is done nothing is decided.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn adopt(&mut self) -> Result<()> {
        let states = self.runtime.list().await.map_err(anyhow::Error::msg).context("cannot list containers")?;
        for state in states {
            let Some((name, index)) = state.id.rsplit_once('.') else { continue };
            let (Some(_), Ok(index)) = (self.state.services.get(name), index.parse::<u32>()) else { continue };
            let name = name.to_owned();
            if let Some(process) = self.runtime.adopt(&state).map_err(anyhow::Error::msg)? {
                let pid = process.pid;
                self.note(&name, Some(index), OWN, "adopted", &format!("it runs, as process {pid}"));
                // Decided by itself: the others are not known yet, and none may be started twice.
                if let Some(service) = self.state.services.get_mut(&name) {
                    let service = Arc::make_mut(service);
                    let (roll, probed) = (service.roll, service.definition.ready.is_some());
                    let replica = service.replicas.entry(index).or_insert_with(|| Replica::new(roll));
                    (replica.phase, replica.ready) = (Phase::Running { pid, since: self.clock.now() }, !probed);
                }
                self.watch(name.clone(), index, process);
                self.begin_probes(&name, index, pid);
            }
        }
        self.reload();
        self.event(&Event::Tick);
        Ok(())
    }

    /// Works until the end.
    pub async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        loop {
            let input = match self.state.next_due() {
                Some(due) => {
                    let until = tokio::time::Instant::from_std(self.clock.instant(due));
                    // Too late is nothing: the decision asks for the time itself.
                    tokio::time::timeout_at(until, inputs.recv()).await.unwrap_or(Some(Input::Event(Event::Tick)))
                }
                None => inputs.recv().await,
            };
            match input {
                None => break,
                Some(Input::End) if self.options.on_exit == OnExit::Leave => break,
                Some(input) => self.take(input).await,
            }
            if self.state.stopping && !self.state.services.values().any(|service| service.is_live()) {
                break;
            }
        }
        self.writer.flush().await;
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.event(&event),
            Input::Ask(who, ask, answer) => self.answer(&who, ask, answer).await,
            Input::Follow(after, answer) => {
                let ready = self.ring.iter().filter(|entry| entry.revision > after).cloned().collect();
                // Who has gone needs no answer.
                drop(answer.send((ready, self.followers.subscribe())));
            }
            Input::Oom(name, index) => {
                let why = "the kernel killed it for want of memory";
                self.note(&name, Some(index), OWN, "oom", why);
                if let Some(service) = self.state.services.get_mut(&name)
                    && let Some(replica) = Arc::make_mut(service).replicas.get_mut(&index)
                {
                    replica.last = Some(why.to_owned());
                }
            }
            Input::Reload => self.reload(),
            Input::End => self.event(&Event::Shutdown),
        }
    }

    /// Puts an event down, decides, and has done what follows.
    fn event(&mut self, event: &Event) {
        if let Event::Of(name, index, happened) = event {
            self.note_happened(name, *index, happened);
        }
        let decision = decide(&self.state, event, self.clock.now());
        self.state = decision.next;
        for action in decision.actions {
            self.note(&action.service, Some(action.index), OWN, action.what.word(), &action.reason);
            self.perform(action);
        }
        self.keep_replicas();
    }

    fn note_happened(&mut self, name: &str, index: u32, happened: &Happened) {
        let key = (name.to_owned(), index);
        let (what, why) = match happened {
            Happened::Started(pid) => {
                self.begin_probes(name, index, *pid);
                ("started", format!("as process {pid}"))
            }
            Happened::Ended(pid, how) => {
                self.end_probes(&key);
                ("ended", format!("process {pid} {how}"))
            }
            Happened::Stopped => ("stopped", "it has no process any more".to_owned()),
            Happened::StartFailed(why) => ("start-failed", why.clone()),
            Happened::StopFailed(why) => ("stop-failed", why.clone()),
            Happened::Ready(_, true) => ("ready", "its probe answers".to_owned()),
            Happened::Ready(_, false) => ("not-ready", "its probe does not answer".to_owned()),
            Happened::NotAlive(_, why) => ("not-alive", why.clone()),
        };
        self.note(name, Some(index), OWN, what, &why);
    }

    fn perform(&mut self, action: Action) {
        let (name, index) = (action.service, action.index);
        let Some(service) = self.state.services.get(&name) else { return };
        let (definition, runtime, inputs) =
            (Arc::clone(&service.definition), Arc::clone(&self.runtime), self.inputs.clone());
        let tell =
            move |name: &str, happened| drop(inputs.send(Input::Event(Event::Of(name.to_owned(), index, happened))));
        match action.what {
            What::Start => {
                let last = service.replicas.get(&index).and_then(|replica| replica.last.as_deref());
                let killed = last.is_some_and(|last| last == "killed by SIGKILL");
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    match runtime.start(&definition, index).await {
                        Ok(process) => {
                            tell(&name, Happened::Started(process.pid));
                            if killed && runtime.was_oom(&container(&name, index)).await {
                                drop(inputs.send(Input::Oom(name.clone(), index)));
                            }
                            await_end(&inputs, &name, index, process).await;
                        }
                        Err(why) => tell(&name, Happened::StartFailed(why)),
                    }
                });
            }
            What::Stop => {
                self.end_probes(&(name.clone(), index));
                tokio::spawn(async move {
                    let happened = match runtime.stop(&definition, index).await {
                        Ok(()) => Happened::Stopped,
                        Err(why) => Happened::StopFailed(why),
                    };
                    tell(&name, happened);
                });
            }
            What::Wait | What::Fail => {}
        }
    }

    fn watch(&self, name: String, index: u32, process: Process) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move { await_end(&inputs, &name, index, process).await });
    }

    fn begin_probes(&mut self, name: &str, index: u32, pid: u32) {
        let key = (name.to_owned(), index);
        self.end_probes(&key);
        let Some(service) = self.state.services.get(name) else { return };
        let (ready, live) = (service.definition.ready.clone(), service.definition.live.clone());
        let mut handles = Vec::new();
        if let Some(probe) = ready {
            let (runtime, inputs, name) = (Arc::clone(&self.runtime), self.inputs.clone(), name.to_owned());
            let task = async move {
                let mut is = false;
                loop {
                    is = probe::until_changed(&runtime, &container(&name, index), &probe, is).await.is_ok();
                    drop(inputs.send(Input::Event(Event::Of(name.clone(), index, Happened::Ready(pid, is)))));
                }
            };
            handles.push(tokio::spawn(task).abort_handle());
        }
        if let Some(probe) = live {
            let (runtime, inputs, name) = (Arc::clone(&self.runtime), self.inputs.clone(), name.to_owned());
            let task = async move {
                if let Err(why) = probe::until_changed(&runtime, &container(&name, index), &probe, true).await {
                    drop(inputs.send(Input::Event(Event::Of(name, index, Happened::NotAlive(pid, why)))));
                }
            };
            handles.push(tokio::spawn(task).abort_handle());
        }
        if !handles.is_empty() {
            self.probes.insert(key, handles);
        }
    }

    fn end_probes(&mut self, key: &(String, u32)) {
        self.probes.remove(key).into_iter().flatten().for_each(|probe| probe.abort());
    }

    /// An entry of the audit log, for those who follow, too. It is on disk a little later.
    fn note(&mut self, service: &str, replica: Option<u32>, who: &str, what: &str, why: &str) {
        let entry = self.entry(service, replica, who, what, why);
        self.publish(&entry);
        self.writer.put(vec![Change::Audit(entry)]);
    }

    fn entry(&mut self, service: &str, replica: Option<u32>, who: &str, what: &str, why: &str) -> Entry {
        self.revision += 1;
        Entry {
            revision: self.revision,
            at: unix_ms(),
            who: who.to_owned(),
            service: service.to_owned(),
            replica,
            what: what.to_owned(),
            why: why.to_owned(),
        }
    }

    fn publish(&mut self, entry: &Entry) {
        let entry = Arc::new(entry.clone());
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(Arc::clone(&entry));
        // Nobody follows: nobody is told.
        drop(self.followers.send(entry));
    }

    /// Puts down replicas of which something has changed that the next one has to know.
    fn keep_replicas(&mut self) {
        let mut changes = Vec::new();
        for (name, service) in &self.state.services {
            for (index, replica) in &service.replicas {
                let record = record_of(replica);
                let key = (name.clone(), *index);
                if self.kept.get(&key) != Some(&record) {
                    changes.push(Change::Replica(name.clone(), *index, record.clone()));
                    self.kept.insert(key, record);
                }
            }
        }
        if !changes.is_empty() {
            self.writer.put(changes);
        }
    }

    async fn answer(&mut self, who: &str, ask: Ask, answer: oneshot::Sender<Answer>) {
        let said = match ask {
            Ask::List => Ok(self.state.services.values().map(|service| self.show(service)).collect::<Vec<_>>().into()),
            Ask::Show(name) => self.find(&name).map(|service| self.show(service)),
            Ask::Put(name, text, generation) => self.put(who, &name, &text, generation).await,
            Ask::Delete(name) => self.delete(who, &name).await,
            Ask::Command(name, command) => self.command(who, &name, command).await,
            Ask::Reload => {
                self.reload();
                Ok(Value::Null)
            }
            Ask::Provision(name, make) => match self.plan_provision(&name, make) {
                Ok((definition, indices)) => {
                    self.note(&name, None, who, if make { "provision" } else { "unprovision" }, "asked by a call");
                    let runtime = Arc::clone(&self.runtime);
                    tokio::spawn(
                        async move { drop(answer.send(provision(&runtime, &definition, indices, make).await)) },
                    );
                    return;
                }
                Err(refusal) => Err(refusal),
            },
        };
        // Who has gone needs no answer.
        drop(answer.send(said));
    }

    fn show(&self, service: &Service) -> Value {
        service_json(&self.state, service, self.clock.now())
    }

    fn find(&self, name: &str) -> Result<&Service, Refusal> {
        let found = self.state.services.get(name).map(AsRef::as_ref);
        found.ok_or_else(|| Refusal::new(404, format!("service {name:?} is not defined")))
    }

    async fn put(&mut self, who: &str, name: &str, text: &str, generation: Option<u64>) -> Answer {
        let definition = parse(text).map_err(|findings| {
            let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
            Refusal::new(422, format!("the definition has errors\n{}", findings.join("\n")))
        })?;
        if definition.name != name {
            return Err(Refusal::new(422, format!("name: is {:?} where {name:?} is put", definition.name)));
        }
        let is = self.state.services.get(name).map_or(0, |service| service.generation);
        if let Some(wanted) = generation.filter(|wanted| *wanted != is) {
            return Err(Refusal::new(412, format!("service {name:?} is at generation {is}, not {wanted}")));
        }
        check_definition(&self.state, &definition).map_err(|text| Refusal::new(409, text))?;
        let event = Event::Defined(Box::new(definition));
        self.commit(who, name, "define", &event).await?;
        let running = self.state.services[name].replicas.clone();
        for (index, replica) in running {
            if let Phase::Running { pid, .. } = replica.phase {
                self.begin_probes(name, index, pid);
            }
        }
        self.find(name).map(|service| self.show(service))
    }

    async fn command(&mut self, who: &str, name: &str, command: Command) -> Answer {
        self.find(name)?;
        check_command(&self.state, name, command).map_err(|text| Refusal::new(409, text))?;
        let word = format!("{command:?}").to_lowercase();
        self.commit(who, name, &word, &Event::Command(name.to_owned(), command)).await?;
        self.find(name).map(|service| self.show(service))
    }

    async fn delete(&mut self, who: &str, name: &str) -> Answer {
        let service = self.find(name)?;
        need_stopped(service)?;
        let event = Event::Removed(name.to_owned());
        self.commit(who, name, "remove", &event).await?;
        self.kept.retain(|(of, _), _| of != name);
        Ok(Value::Null)
    }

    /// Has an event on disk, then lets it happen: what cannot be kept does not happen.
    async fn commit(&mut self, who: &str, name: &str, what: &str, event: &Event) -> Result<(), Refusal> {
        let decision = decide(&self.state, event, self.clock.now());
        let entry = self.entry(name, None, who, what, "asked by a call");
        let change = match decision.next.services.get(name) {
            Some(service) => Change::Service(Box::new(record_of_service(service))),
            None => Change::Removed(name.to_owned()),
        };
        let kept = self.writer.commit(vec![change, Change::Audit(entry.clone())]).await;
        kept.map_err(|why| Refusal::new(507, format!("nothing was changed: {why}")))?;
        self.publish(&entry);
        self.event(event);
        Ok(())
    }

    fn plan_provision(&self, name: &str, make: bool) -> Result<(Arc<Definition>, Vec<u32>), Refusal> {
        let service = self.find(name)?;
        if !make {
            need_stopped(service)?;
        }
        let most = if make { service.scale } else { service.definition.topology.bounds().2 };
        Ok((Arc::clone(&service.definition), (0..most).collect()))
    }

    /// Reads definitions in files, and takes those that have changed.
    fn reload(&mut self) {
        let inputs = self.inputs.clone();
        for (path, read) in crate::files::read_all(&self.options.services) {
            match read {
                Err(findings) => findings.iter().for_each(|finding| tell(&format!("{}: {finding}", path.display()))),
                Ok((definition, text)) => {
                    let same = |service: &Arc<Service>| *service.definition == definition;
                    if !self.state.services.get(&definition.name).is_some_and(same) {
                        let (answer, said) = oneshot::channel();
                        let ask = Ask::Put(definition.name, text, None);
                        drop(inputs.send(Input::Ask(format!("file {}", path.display()), ask, answer)));
                        tokio::spawn(async move {
                            if let Ok(Err(refusal)) = said.await {
                                tell(&format!("{}: {}", path.display(), refusal.text));
                            }
                        });
                    }
                }
            }
        }
    }
}

async fn await_end(inputs: &mpsc::UnboundedSender<Input>, name: &str, index: u32, process: Process) {
    let pid = process.pid;
    let happened = match process.ended().await {
        Ok(how) => Happened::Ended(pid, how),
        Err(why) => Happened::Ended(pid, format!("cannot be watched: {why}")),
    };
    drop(inputs.send(Input::Event(Event::Of(name.to_owned(), index, happened))));
}

async fn provision(runtime: &Runtime, definition: &Definition, indices: Vec<u32>, make: bool) -> Answer {
    for index in indices {
        let done = match make {
            true => runtime.provision(definition, index).await,
            false => runtime.unprovision(definition, index).await,
        };
        done.map_err(|why| Refusal::new(500, format!("{}: {why}", container(&definition.name, index))))?;
    }
    Ok(Value::Null)
}

fn record_of(replica: &Replica) -> ReplicaRecord {
    let (failed, stuck) = match &replica.phase {
        Phase::Failed { why } => (Some(why.clone()), None),
        Phase::Stuck { why } => (None, Some(why.clone())),
        _ => (None, None),
    };
    ReplicaRecord {
        roll: replica.roll,
        restarts: replica.restarts.clone(),
        streak: replica.streak,
        last: replica.last.clone(),
        failed,
        stuck,
    }
}

fn record_of_service(service: &Service) -> ServiceRecord {
    ServiceRecord {
        definition: Definition::clone(&service.definition),
        generation: service.generation,
        target: service.target,
        scale: service.scale,
        frozen: service.frozen,
        roll: service.roll,
    }
}

/// The state that was kept. Times of another boot mean nothing, and what failed then may be tried again.
fn restore(kept: Kept, same_boot: bool) -> State {
    let mut state = State::default();
    for record in kept.services {
        let name = record.definition.name.clone();
        let mut service = Service::new(record.definition, record.generation);
        (service.target, service.scale) = (record.target, record.scale);
        (service.frozen, service.roll) = (record.frozen, record.roll);
        state.services.insert(name, Arc::new(service));
    }
    for (name, index, record) in kept.replicas {
        let Some(service) = state.services.get_mut(&name) else { continue };
        let service = Arc::make_mut(service);
        let mut replica = Replica::new(record.roll);
        replica.last = record.last;
        if same_boot {
            (replica.restarts, replica.streak) = (record.restarts, record.streak);
            if let Some(why) = record.failed {
                replica.phase = Phase::Failed { why };
            }
            if let Some(why) = record.stuck {
                replica.phase = Phase::Stuck { why };
            }
        }
        if index < service.scale || replica.phase.is_live() {
            service.replicas.insert(index, replica);
        }
    }
    state
}

/// Ticks for the watchdog of systemd, if it wants them: from the loop that would stand still.
pub async fn tick_watchdog(inputs: mpsc::UnboundedSender<Input>, every: Duration) {
    loop {
        tokio::time::sleep(every / 2).await;
        let (answer, said) = oneshot::channel();
        if inputs.send(Input::Follow(u64::MAX, answer)).is_err() || said.await.is_err() {
            return;
        }
        crate::systemd::notify("WATCHDOG=1");
    }
}

/// Entries of the audit log after a revision, read beside the task.
///
/// # Errors
/// The store cannot be read.
pub async fn read_audit(writer: &Writer, after: u64, most: usize) -> Result<Vec<Entry>, String> {
    let store = writer.store();
    let read = move || lock(&store).audit(after, most).map_err(|error| render(&error));
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
}

/// An error with its causes in one line.
pub fn render(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Refuses what only a service without replicas that run can take.
fn need_stopped(service: &Service) -> Result<(), Refusal> {
    let name = &service.definition.name;
    if service.target == Target::Started {
        return Err(Refusal::new(409, format!("service {name:?} is started: stop it first")));
    }
    if service.is_live() {
        return Err(Refusal::new(
            409,
            format!("service {name:?} has not stopped yet: skep svc status {name} shows what runs"),
        ));
    }
    Ok(())
}
