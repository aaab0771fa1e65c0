//! Steps that go through a service manager.

use systemd::Property;

use super::Host;
use crate::error::{Error, Result};

impl Host<'_> {
    pub(super) fn start_unit(&mut self, name: &str, properties: &[Property]) -> Result<()> {
        let unit = self.unit()?;
        // Ahead of the manager, which moves the process into whatever group is there.
        if unit.is_slice() {
            cgroup::Group::refuse_frozen(&self.plan.groups)?;
        } else {
            cgroup::Group::refuse_in_use(&self.plan.groups)?;
        }
        let mut manager = unit.connect()?;
        let mut properties = properties.to_vec();
        if !unit.is_slice() {
            properties.push(systemd::property::pids(self.pid()?.cast_unsigned()));
        }
        self.unit.begun = true;
        let started = manager.start_transient_unit(name, &properties);
        // Another one of its name: nothing of it is ours to take back.
        self.unit.begun = !started.as_ref().is_err_and(|error| error.is("UnitExists"));
        self.unit.manager = Some(manager);
        Ok(started?)
    }

    fn unit(&self) -> Result<&crate::unit::Unit> {
        self.plan.unit.as_ref().ok_or_else(|| Error::Unsupported("the container has no unit".to_owned()))
    }

    /// systemd has made the groups that it knows, with the process in them; the process enters the others itself.
    pub(super) fn adopt_cgroups(&mut self) -> Result<()> {
        let group = cgroup::Group::adopt(&self.plan.groups)?;
        let pid = self.pid()?;
        if self.unit()?.is_slice() {
            if let Some(unified) = group.unified() {
                sys::fs::write_value_at(unified, "cgroup.procs", &pid.to_string())?;
            }
        } else if !group.is_tracked(pid)? {
            let name = &self.unit()?.name;
            let place = group.places().next().map(cgroup::GroupPath::dir).unwrap_or_default();
            return Err(Error::Unsupported(format!(
                "systemd started {name}, but the container's process is not in its group ({place}): the service manager has \
                 other cgroups than the runtime sees"
            )));
        }
        self.attach = Some(group.open_attach(&[])?);
        self.group = Some(group);
        Ok(())
    }

    pub(super) fn set_unit_properties(&mut self, name: &str, properties: &[Property]) -> Result<()> {
        if self.unit.manager.is_none() {
            self.unit.manager = Some(self.unit()?.connect()?);
        }
        match &mut self.unit.manager {
            Some(manager) => Ok(manager.set_unit_properties(name, properties)?),
            None => Err(Error::Unsupported("no connection to systemd".to_owned())),
        }
    }

    pub(super) fn attach_to_unit(&mut self, name: &str) -> Result<()> {
        let pid = self.pid()?.cast_unsigned();
        Ok(self.unit()?.connect()?.attach_processes(name, "/", &[pid])?)
    }
}
