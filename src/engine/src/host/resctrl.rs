//! Intel resource director: a folder per class of service under `/sys/fs/resctrl`.

use std::os::fd::AsFd;

use runtime_spec::model::IntelRdt;
use sys::Errno;
use sys::fs;

use crate::error::{Error, Result};

/// Where the kernel's documentation has it mounted (Documentation/filesystems/resctrl.rst).
pub(crate) const ROOT: &str = "/sys/fs/resctrl";

/// Puts a process into its class: the one that is named, which is made where it is not there, or one of the container's
/// id. With monitoring, a group of the container's id below it.
pub(super) fn join(root: &str, rdt: &IntelRdt, id: &str, pid: i32) -> Result<()> {
    let root = fs::open_dir(root)?;
    if fs::stat_at(root.as_fd(), "schemata").is_err() {
        return Err(Error::Unsupported("intelRdt: resctrl is not mounted on this host".to_owned()));
    }
    let class = rdt.clos_id.as_deref().unwrap_or(id);
    let lines = schemata(rdt);
    if rdt.clos_id.is_none() || !lines.is_empty() {
        match fs::mkdir_at(root.as_fd(), class, 0o755) {
            Err(error) if !error.is(Errno::EXIST) => return Err(error.into()),
            _ => {}
        }
    }
    let dir = fs::open_at(root.as_fd(), class, fs::OFlags::PATH | fs::OFlags::DIRECTORY, 0)?;
    if !lines.is_empty() {
        fs::write_value_at(dir.as_fd(), "schemata", &lines)?;
    }
    fs::write_value_at(dir.as_fd(), "tasks", &pid.to_string())?;
    if rdt.enable_monitoring {
        let group = format!("mon_groups/{id}");
        match fs::mkdir_at(dir.as_fd(), &group, 0o755) {
            Err(error) if !error.is(Errno::EXIST) => return Err(error.into()),
            _ => fs::write_value_at(dir.as_fd(), &format!("{group}/tasks"), &pid.to_string())?,
        }
    }
    Ok(())
}

/// The folders that belong to the container alone and go with it. A class that the definition names is somebody else's.
pub(crate) fn groups_of(rdt: &IntelRdt, id: &str) -> impl Iterator<Item = String> {
    let class = rdt.clos_id.is_none().then(|| format!("{ROOT}/{id}"));
    let class_of_monitor = rdt.clos_id.as_deref().unwrap_or(id);
    let monitor = rdt.enable_monitoring.then(|| format!("{ROOT}/{class_of_monitor}/mon_groups/{id}"));
    class.into_iter().chain(monitor)
}

/// Changes the schemata of a class that is there.
pub(crate) fn write_schemata(root: &str, rdt: &IntelRdt, id: &str) -> Result<()> {
    let dir = fs::open_dir(&format!("{root}/{}", rdt.clos_id.as_deref().unwrap_or(id)))?;
    Ok(fs::write_value_at(dir.as_fd(), "schemata", &schemata(rdt))?)
}

/// All schemata as lines; the list comes last, so that it wins over the two older fields.
fn schemata(rdt: &IntelRdt) -> String {
    let mut text = String::new();
    for line in rdt.l3_cache_schema.iter().chain(&rdt.mem_bw_schema).chain(&rdt.schemata) {
        text.push_str(line.trim_end_matches('\n'));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_are_joined_in_order() {
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=f\n".to_owned()),
            mem_bw_schema: Some("MB:0=20".to_owned()),
            schemata: vec!["L3:0=ff".to_owned()],
            ..IntelRdt::default()
        };
        assert_eq!(schemata(&rdt), "L3:0=f\nMB:0=20\nL3:0=ff\n");
    }

    #[test]
    fn only_the_containers_own_folders_are_removed() {
        let of = |clos_id: Option<&str>, enable_monitoring| {
            let rdt = IntelRdt { clos_id: clos_id.map(str::to_owned), enable_monitoring, ..IntelRdt::default() };
            groups_of(&rdt, "web1").collect::<Vec<_>>()
        };
        assert_eq!(of(None, false), ["/sys/fs/resctrl/web1"]);
        assert_eq!(of(None, true), ["/sys/fs/resctrl/web1", "/sys/fs/resctrl/web1/mon_groups/web1"]);
        assert_eq!(of(Some("gold"), true), ["/sys/fs/resctrl/gold/mon_groups/web1"]);
        assert!(of(Some("gold"), false).is_empty());
    }

    #[test]
    fn a_host_without_resctrl_says_so() {
        let error = join("/sys", &IntelRdt::default(), "x", 1).unwrap_err();
        assert_eq!(error.to_string(), "intelRdt: resctrl is not mounted on this host");
    }
}
