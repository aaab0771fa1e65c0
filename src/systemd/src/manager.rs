//! The service manager: the calls that containers need.
//!
//! Interface: org.freedesktop.systemd1(5). A job is waited for by its signal `JobRemoved`, which a connection gets once it
//! has subscribed; the subscription comes before the call, so that no signal is missed.

use std::time::Duration;

use crate::address::Endpoint;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::property::Property;
use crate::value::Value;

/// How long a job may take: systemd starts a scope in a millisecond, but may be busy with a reload.
pub const JOB_BOUND: Duration = Duration::from_secs(30);

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const JOB_REMOVED: &str = "JobRemoved";
const BUS: &str = "org.freedesktop.DBus";

/// A connection to a service manager, of the machine or of a user.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
    /// Whether a bus is between us, which passes signals on that were asked for.
    over_bus: bool,
    subscribed: bool,
}

impl Manager {
    /// Connects through the first endpoint that works. `uid` is the caller's own.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with the reason of each.
    pub fn connect(endpoints: &[Endpoint], uid: u32) -> Result<Manager> {
        let mut failures = Vec::new();
        for endpoint in endpoints {
            match Connection::open(endpoint, uid) {
                Ok(connection) => return Ok(Manager { connection, over_bus: !endpoint.direct, subscribed: false }),
                Err(Error::Unreachable(tries)) => failures.extend(tries),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unreachable(failures))
    }

    fn call(&mut self, member: &str, body: Vec<Value>) -> Result<Vec<Value>> {
        self.connection.call(Message::call(SERVICE, PATH, MANAGER, member, body))
    }

    /// systemd's version: 252 for `252.39-1~deb12u1`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn version(&mut self) -> Result<u32> {
        let text = self.property(PATH, MANAGER, "Version")?;
        let digits = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Error::Answer {
            call: "Get Version".to_owned(),
            want: "a number first",
            got: format!("{text:?}"),
        })
    }

    /// The group that the manager's units are below, without a trailing slash; empty for that of a machine.
    ///
    /// # Errors
    /// [`Error`].
    pub fn control_group(&mut self) -> Result<String> {
        let group = self.property(PATH, MANAGER, "ControlGroup")?;
        Ok(group.trim_end_matches('/').to_owned())
    }

    /// A property that is text.
    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String> {
        let body = vec![Value::text(interface), Value::text(name)];
        let answer = self.connection.call(Message::call(SERVICE, path, PROPERTIES, "Get", body))?;
        first_text(&answer, || format!("Get {name}"))
    }

    /// A property that every kind of unit has and that is text, such as `Description` or `ActiveState`.
    ///
    /// # Errors
    /// [`Error::Refused`] with `NoSuchUnit` where none is loaded.
    pub fn common_property(&mut self, unit: &str, name: &str) -> Result<String> {
        let answer = self.call("GetUnit", vec![Value::text(unit)])?;
        let path = first_text(&answer, || format!("GetUnit {unit}"))?;
        self.property(&path, UNIT, name)
    }

    fn subscribe(&mut self) -> Result<()> {
        if self.subscribed {
            return Ok(());
        }
        self.connection.keep_signal(MANAGER, JOB_REMOVED);
        if self.over_bus {
            let rule = format!("type='signal',sender='{SERVICE}',interface='{MANAGER}',member='{JOB_REMOVED}'");
            let call = Message::call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", vec![Value::text(rule)]);
            self.connection.call(call)?;
        }
        match self.call("Subscribe", Vec::new()) {
            Err(error) if !error.is("AlreadySubscribed") => return Err(error),
            _ => self.subscribed = true,
        }
        Ok(())
    }

    /// Makes and starts a transient unit, and waits until the job is done.
    ///
    /// A unit of that name that has failed before is reset and replaced; one that lives is an error.
    ///
    /// # Errors
    /// [`Error::Refused`] with `UnitExists`, [`Error::Job`].
    pub fn start_transient_unit(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        self.subscribe()?;
        let start = |manager: &mut Manager| {
            let properties = crate::property::to_value(properties);
            let none = Value::Array("(sa(sv))".to_owned(), Vec::new());
            manager.call("StartTransientUnit", vec![Value::text(unit), Value::text("replace"), properties, none])
        };
        let answer = match start(self) {
            Err(error) if error.is("UnitExists") && self.is_failed(unit)? => {
                self.reset_failed(unit)?;
                start(self)
            }
            other => other,
        }?;
        self.wait_job(&answer, "start", unit)
    }

    fn is_failed(&mut self, unit: &str) -> Result<bool> {
        match self.common_property(unit, "ActiveState") {
            Ok(state) => Ok(state == "failed"),
            // It went in between.
            Err(error) if error.is("NoSuchUnit") => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn wait_job(&mut self, answer: &[Value], what: &'static str, unit: &str) -> Result<()> {
        let job = first_text(answer, || format!("{what} {unit}"))?;
        let doing = format!("waiting for the {what} of {unit}");
        let result = self.connection.wait_signal(&doing, JOB_BOUND, |signal| {
            let of_job = signal.body.get(1)?.as_text() == Some(&job);
            of_job.then(|| {
                first_text(signal.body.get(3..).unwrap_or_default(), || format!("result of the {what} of {unit}"))
            })
        })?;
        let outcome = match result.transpose()? {
            Some(result) if result == "done" => return Ok(()),
            Some(result) => format!("its job ended with {result:?}"),
            None => {
                let number = job.rsplit('/').next().unwrap_or_default();
                format!("job {number} is not done after {JOB_BOUND:?}")
            }
        };
        let state = self.describe_unit(unit);
        Err(Error::Job { what, unit: unit.to_owned(), outcome, state })
    }

    /// What a unit is now, in words; part of an error, so it has none of its own.
    fn describe_unit(&mut self, unit: &str) -> String {
        // The second is not asked for where the first is not told: a manager that hangs is waited for once.
        let active = self.common_property(unit, "ActiveState");
        match active.and_then(|active| Ok((active, self.common_property(unit, "SubState")?))) {
            Ok((active, sub)) => format!("the unit is {active} ({sub})"),
            Err(error) => format!("its state is not known: {}", error.in_one_line()),
        }
    }

    /// Changes properties of a unit until it ends, and waits until they are written into its group: systemd answers first,
    /// and writes before it turns to the next message.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn set_unit_properties(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let body = vec![Value::text(unit), Value::Bool(true), crate::property::to_value(properties)];
        self.call("SetUnitProperties", body)?;
        let ping = Message::call(SERVICE, PATH, "org.freedesktop.DBus.Peer", "Ping", Vec::new());
        self.connection.call(ping).map(drop)
    }

    /// Moves processes into the group of a unit, or into one below it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn attach_processes(&mut self, unit: &str, subgroup: &str, pids: &[u32]) -> Result<()> {
        let pids = Value::Array("u".to_owned(), pids.iter().copied().map(Value::U32).collect());
        let body = vec![Value::text(unit), Value::text(format!("/{}", subgroup.trim_matches('/'))), pids];
        self.call("AttachProcessesToUnit", body).map(drop)
    }

    /// Stops a unit, waits until it is done, and forgets that it failed if it did. One that is not there has ended: a
    /// scope goes by itself when its last process does.
    ///
    /// # Errors
    /// [`Error::Job`] for a unit that does not end in time.
    pub fn stop_unit(&mut self, unit: &str) -> Result<()> {
        self.subscribe()?;
        match self.call("StopUnit", vec![Value::text(unit), Value::text("replace")]) {
            Err(error) if error.is("NoSuchUnit") => return Ok(()),
            other => self.wait_job(&other?, "stop", unit)?,
        }
        self.reset_failed(unit)
    }

    /// Forgets that a unit failed. A unit that is not there has not.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.call("ResetFailedUnit", vec![Value::text(unit)]) {
            Err(error) if !error.is("NoSuchUnit") => Err(error),
            _ => Ok(()),
        }
    }
}

/// The text that an answer begins with, also where it is in a variant.
fn first_text(answer: &[Value], call: impl FnOnce() -> String) -> Result<String> {
    let value = answer.first().map(Value::inner);
    match value.and_then(Value::as_text) {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::no_text(call(), value)),
    }
}
