use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::definition::parse;

const DB: &str = "name = \"db\"\ncontainer.from = \"x\"\nrestart = { immediate = 1, backoff = \"100ms\", jitter = 0.0, burst = 3, \
                  window = \"10s\", settle = \"5s\" }";
const WEB: &str = "name = \"web\"\ntopology = \"flex\"\nflex = { min = 1, target = 3, max = 4 }\ndepends = [\"db\"]\n\
                   container.from = \"x\"\nready.tcp = \"h:1\"\nrestart = { burst = 4, window = \"20s\" }";

fn of(name: &str, index: u32, happened: Happened) -> Event {
    Event::Of(name.to_owned(), index, happened)
}

fn command(name: &str, command: Command) -> Event {
    Event::Command(name.to_owned(), command)
}

fn defined(text: &str) -> Event {
    Event::Defined(Box::new(parse(text).unwrap()))
}

/// A state that is led through events, with the actions that follow from each as `what name.index`.
#[derive(Default)]
struct Led(State);

impl Led {
    fn at(&mut self, now: Ms, event: Event) -> Vec<String> {
        let decision = decide(&self.0, &event, now);
        self.0 = decision.next;
        decision.actions.iter().map(|a| format!("{} {}.{}", a.what.word(), a.service, a.index)).collect()
    }

    fn word(&self, name: &str, index: u32) -> &'static str {
        self.0.services[name].replicas[&index].phase.word()
    }
}

#[test]
fn what_is_defined_starts_and_what_dies_comes_back() {
    let mut led = Led::default();
    assert_eq!(led.at(0, defined(DB)), ["start db.0"]);
    assert_eq!(led.at(10, of("db", 0, Happened::Started(7))), [""; 0]);
    assert_eq!(led.at(20, of("db", 0, Happened::Ended(7, "killed".to_owned()))), ["start db.0"]);
    assert_eq!(led.at(30, of("db", 0, Happened::Started(8))), [""; 0]);
    // The second end in a row waits, and nothing comes before its time.
    assert_eq!(led.at(40, of("db", 0, Happened::Ended(8, "killed".to_owned()))), ["wait db.0"]);
    assert_eq!(led.0.next_due(), Some(140));
    assert_eq!(led.at(139, Event::Tick), [""; 0]);
    assert_eq!(led.at(140, Event::Tick), ["start db.0"]);
}

#[test]
fn an_end_of_another_process_is_nothing() {
    let mut led = Led::default();
    led.at(0, defined(DB));
    led.at(1, of("db", 0, Happened::Started(7)));
    assert_eq!(led.at(2, of("db", 0, Happened::Ended(6, "killed".to_owned()))), [""; 0]);
    assert_eq!(led.word("db", 0), "running");
}

#[test]
fn too_many_ends_are_a_failure_until_it_is_cleared() {
    let mut led = Led::default();
    led.at(0, defined(DB));
    for round in 0..3 {
        led.at(round * 1000, of("db", 0, Happened::Started(9)));
        led.at(round * 1000 + 1, of("db", 0, Happened::Ended(9, "exited with 1".to_owned())));
        led.at(round * 1000 + 999, Event::Tick);
    }
    led.at(3000, of("db", 0, Happened::Started(9)));
    assert_eq!(led.at(3001, of("db", 0, Happened::Ended(9, "exited with 1".to_owned()))), ["fail db.0"]);
    assert_eq!(led.at(900_000, Event::Tick), [""; 0]);
    let why = led.0.why(&led.0.services["db"]);
    assert!(why[0].contains("exited with 1, after 3 restarts within 10s"), "{why:?}");
    assert_eq!(led.at(900_001, command("db", Command::Clear)), ["start db.0"]);
}

#[test]
fn dependents_wait_and_stop_first() {
    let mut led = Led::default();
    assert_eq!(led.at(0, defined(WEB)), [""; 0]);
    assert_eq!(led.at(0, defined(DB)), ["start db.0"]);
    assert_eq!(led.at(1, of("db", 0, Happened::Started(1))), ["start web.0", "start web.1", "start web.2"]);
    (0..3).for_each(|index| drop(led.at(2, of("web", index, Happened::Started(index + 2)))));
    assert!(check_command(&led.0, "db", Command::Stop).unwrap_err().contains("web waits for"));
    assert_eq!(led.at(3, Event::Shutdown), ["stop web.0", "stop web.1", "stop web.2"]);
    led.at(4, of("web", 0, Happened::Stopped));
    led.at(4, of("web", 1, Happened::Stopped));
    assert_eq!(led.at(4, of("web", 2, Happened::Stopped)), ["stop db.0"]);
}

#[test]
fn a_rolling_restart_takes_one_when_the_one_before_is_ready() {
    let mut led = Led::default();
    led.at(0, defined(DB));
    led.at(1, of("db", 0, Happened::Started(1)));
    led.at(1, defined(WEB));
    for index in 0..3 {
        led.at(2, of("web", index, Happened::Started(10 + index)));
        led.at(2, of("web", index, Happened::Ready(10 + index, true)));
    }
    assert_eq!(led.at(3, command("web", Command::Restart)), ["stop web.0"]);
    assert_eq!(led.at(4, of("web", 0, Happened::Stopped)), ["start web.0"]);
    assert_eq!(led.at(5, of("web", 0, Happened::Started(20))), [""; 0]);
    assert_eq!(led.at(6, of("web", 0, Happened::Ready(20, true))), ["stop web.1"]);
    led.at(7, of("web", 1, Happened::Stopped));
    assert_eq!(led.at(8, command("web", Command::Abort)), [""; 0]);
    led.at(9, of("web", 1, Happened::Started(21)));
    assert_eq!(led.at(9, of("web", 1, Happened::Ready(21, true))), [""; 0]);
}

#[test]
fn nothing_starts_after_a_stop_that_failed() {
    let mut led = Led::default();
    led.at(0, defined(DB));
    led.at(1, of("db", 0, Happened::Started(1)));
    assert_eq!(led.at(2, command("db", Command::Restart)), ["stop db.0"]);
    assert_eq!(led.at(3, of("db", 0, Happened::StopFailed("no answer".to_owned()))), ["fail db.0"]);
    assert_eq!(led.at(4, command("db", Command::Start)), [""; 0]);
    assert_eq!(led.at(900_000, Event::Tick), [""; 0]);
    // Cleared it is stopped again: nothing starts before that has succeeded.
    assert_eq!(led.at(900_001, command("db", Command::Clear)), ["stop db.0"]);
    assert_eq!(led.at(900_002, of("db", 0, Happened::Stopped)), ["start db.0"]);
}

#[test]
fn a_scale_is_kept_when_the_definition_changes() {
    let mut led = Led::default();
    led.at(0, defined(WEB));
    led.at(0, command("web", Command::Scale(4)));
    led.at(1, defined(&WEB.replace("max = 4", "max = 6")));
    assert_eq!(led.0.services["web"].scale, 4);
    assert!(check_command(&led.0, "web", Command::Scale(7)).unwrap_err().contains("from 1 to 6"));
}

#[test]
fn a_circle_of_services_is_refused() {
    let mut led = Led::default();
    led.at(0, defined(WEB));
    let db =
        parse(&format!("{DB}\ndepends = [\"web\"]").replace("\nrestart", "\ndepends = [\"web\"]\nrestart").replacen(
            "}\ndepends = [\"web\"]",
            "}",
            1,
        ));
    assert!(check_definition(&led.0, &db.unwrap()).unwrap_err().contains("wait for itself"));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let rule = Restart { jitter: 0, ..Restart::default() };
    let pauses: Vec<Ms> = [1, 3, 4, 5, 6, 12, 13, 4_000_000].iter().map(|streak| pause(&rule, *streak, 0)).collect();
    assert_eq!(pauses, [0, 0, 100, 200, 400, 25_600, 30_000, 30_000]);
    let drawn = Restart { jitter: 500, ..rule };
    assert_eq!((pause(&drawn, 4, 0), pause(&drawn, 4, 999)), (100, 149));
}

/// What a sequence of random numbers makes happen: a machine of its own that obeys actions, and faults.
#[derive(Default)]
struct World {
    state: State,
    now: Ms,
    next_pid: u32,
    /// Processes that are there.
    runs: BTreeMap<(String, u32), u32>,
    /// Calls under way.
    calls: BTreeSet<(String, u32, &'static str)>,
    /// When each replica was started after an end that nobody asked for.
    restarts: BTreeMap<(String, u32), Vec<Ms>>,
}

impl World {
    fn step(&mut self, event: &Event) {
        let before = self.state.clone();
        let decision = decide(&self.state, event, self.now);
        for action in &decision.actions {
            self.obey(&before, &decision.next, action, event);
        }
        self.state = decision.next;
        for (name, service) in &self.state.services {
            let live = service.replicas.values().filter(|replica| replica.phase.is_live()).count();
            let most = service.definition.topology.bounds().2 as usize;
            assert!(live <= most, "I10: {live} replicas of {name} live, of at most {most}");
        }
    }

    fn obey(&mut self, before: &State, next: &State, action: &Action, event: &Event) {
        let key = (action.service.clone(), action.index);
        let service = &next.services[&action.service];
        assert!(!action.reason.is_empty());
        if matches!(action.what, What::Start | What::Stop) {
            assert!(!service.frozen, "I7: {action:?} of a frozen service");
            let other = |(name, index, _): &&(String, u32, &str)| (name, *index) == (&key.0, key.1);
            assert_eq!(self.calls.iter().find(other), None, "two calls for one replica: {action:?}");
        }
        match action.what {
            What::Start => {
                assert!(!self.runs.contains_key(&key), "started twice: {action:?}");
                assert_eq!(next.lacking(service), None, "I8: {action:?}");
                if action.reason.contains(" and ") {
                    self.count_restart(key.clone(), &service.definition);
                }
                self.calls.insert((key.0, key.1, "start"));
            }
            What::Stop => {
                let enough = action.reason.contains("enough");
                let held = next.dependents(&key.0).any(|d| !next.is_wanted(d) && !d.frozen && d.is_live());
                let ends = !next.is_wanted(service);
                assert!(enough || !ends || !held, "I8: {action:?} after {event:?} in {before:?}");
                self.calls.insert((key.0, key.1, "stop"));
            }
            What::Wait | What::Fail => {}
        }
    }

    fn count_restart(&mut self, key: (String, u32), definition: &Definition) {
        let (window, now) = (millis(definition.restart.window), self.now);
        let times = self.restarts.entry(key).or_default();
        times.push(now);
        let recent = times.iter().filter(|at| now - **at < window).count();
        assert!(recent <= definition.restart.burst as usize, "I11: {recent} restarts within {window} ms");
    }

    /// Ends the call at a place of the list, well or badly.
    fn answer(&mut self, at: usize, well: bool) {
        let Some(call) = self.calls.iter().nth(at % self.calls.len().max(1)).cloned() else { return };
        self.calls.remove(&call);
        let (name, index, what) = call;
        let happened = match (what, well) {
            ("start", true) => {
                self.next_pid += 1;
                self.runs.insert((name.clone(), index), self.next_pid);
                Happened::Started(self.next_pid)
            }
            ("start", false) => Happened::StartFailed("no room".to_owned()),
            (_, true) => {
                self.runs.remove(&(name.clone(), index));
                Happened::Stopped
            }
            (_, false) => Happened::StopFailed("no answer".to_owned()),
        };
        self.step(&of(&name, index, happened));
    }

    fn on_process(&mut self, at: usize, dies: bool) {
        let Some((key, pid)) = self.runs.iter().nth(at % self.runs.len().max(1)).map(|(k, pid)| (k.clone(), *pid))
        else {
            return;
        };
        if dies {
            self.runs.remove(&key);
            self.step(&of(&key.0, key.1, Happened::Ended(pid, "was killed".to_owned())));
        } else {
            self.step(&of(&key.0, key.1, Happened::Ready(pid, !at.is_multiple_of(3))));
        }
    }

    fn happen(&mut self, kind: u8, at: usize) {
        let name = if at.is_multiple_of(2) { "db" } else { "web" };
        let commands = [
            Command::Start,
            Command::Stop,
            Command::Restart,
            Command::Freeze,
            Command::Thaw,
            Command::Scale(1 + at as u32 % 4),
            Command::Abort,
        ];
        match kind {
            0..=2 => self.answer(at, true),
            3 => self.answer(at, !at.is_multiple_of(4)),
            4..=5 => self.on_process(at, true),
            6 => self.on_process(at, false),
            7 => {
                let wanted = commands[at / 2 % commands.len()];
                if check_command(&self.state, name, wanted).is_ok() {
                    // A person who restarts begins to count anew; a replica that is surplus is forgotten.
                    if matches!(wanted, Command::Restart | Command::Scale(_)) {
                        self.restarts.retain(|(of, _), _| of != name);
                    }
                    self.step(&command(name, wanted));
                }
            }
            _ => {
                self.now += at as u64 % 3000;
                self.step(&Event::Tick);
            }
        }
    }

    /// No fault any more: everything is thawed, cleared and started, and all calls succeed.
    fn come_to_rest(&mut self) {
        for name in ["db", "web"] {
            self.step(&command(name, Command::Thaw));
        }
        while !self.calls.is_empty() {
            self.answer(0, true);
        }
        for name in ["db", "web"] {
            for wanted in [Command::Start, Command::Clear] {
                self.restarts.clear();
                self.step(&command(name, wanted));
            }
        }
        for _ in 0..200 {
            while !self.calls.is_empty() {
                self.answer(0, true);
            }
            let runs = self.runs.clone();
            for ((name, index), pid) in runs {
                self.step(&of(&name, index, Happened::Ready(pid, true)));
            }
            self.now += 1000;
            self.step(&Event::Tick);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(script in proptest::collection::vec((0u8..9, 0usize..10_000), 0..250)) {
        let mut world = World::default();
        world.step(&defined(WEB));
        world.step(&defined(DB));
        for (kind, at) in script {
            world.happen(kind, at);
        }
        world.come_to_rest();
        for (name, service) in &world.state.services {
            let there: Vec<u32> = world.runs.keys().filter(|(of, _)| of == name).map(|(_, index)| *index).collect();
            let wanted: Vec<u32> = (0..service.scale).collect();
            prop_assert_eq!(there, wanted, "I5: {} is {:?}", name, service);
            prop_assert!(service.is_available());
        }
    }
}
