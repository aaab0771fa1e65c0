//! What is wrong with containers that are defined, and with what starts them at boot.

use std::path::Path;

use anyhow::Result;

use super::{Finding, Verdict, finding};
use crate::definition::Definition;
use crate::document;
use crate::keys;
use crate::monitor;
use crate::run::Manager;
use crate::runs::Run;

/// How many containers there are, and those that need somebody.
pub(super) fn judge(manager: &Manager) -> Result<Vec<Finding>> {
    let names = Definition::names(&manager.places)?;
    let running: Vec<String> =
        manager.runtime.list()?.into_iter().filter(|state| state.status.is_alive()).map(|state| state.id).collect();
    let runs = names.iter().filter(|name| running.contains(name)).count();
    let mut findings =
        vec![finding("containers", Verdict::Good, format!("{} are defined, {runs} of them run", names.len()), None)];
    let mut begin = false;
    for name in &names {
        let subject = format!("container {name}");
        // It may be destroyed meanwhile.
        let Ok(text) = document::read_text(&manager.places.container(name)) else { continue };
        let wrong = keys::check(&text, Some(name));
        if let Some(first) = wrong.first() {
            let found = format!("its definition makes no sense: {}: {}", first.key, first.text);
            let advice = format!("skep checkconfig {name} tells all of it, skep edit {name} mends it");
            findings.push(finding(&subject, Verdict::Limited, found, Some(&advice)));
            continue;
        }
        let Ok(Some(definition)) = Definition::read(&manager.places, name) else { continue };
        begin |= definition.autostart.is_some();
        let run = Run::read(&manager.places, name)?.filter(|_| definition.monitor && running.contains(name));
        if let Some(run) = run
            && !monitor::is_there(&run.folder(&manager.places, name))?
        {
            let advice = format!("skep start {name} gives it another one; nothing that it does is stopped");
            findings.push(finding(&subject, Verdict::Limited, "it runs without its monitor", Some(&advice)));
        }
    }
    findings.extend(begin.then(|| judge_boot(Path::new("/"))));
    Ok(findings)
}

/// Whether something starts containers with the machine: the unit or the script of docs/boot, by where their links are.
fn judge_boot(root: &Path) -> Finding {
    const UNIT: &str = "etc/systemd/system/multi-user.target.wants/skep-autostart.service";
    let scripts = ["etc/rc2.d", "etc/rc3.d", "etc/runlevels/default"].map(|folder| root.join(folder));
    let is_script = |folder: &std::path::PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| name.ends_with("skep-autostart"))
    };
    if root.join(UNIT).symlink_metadata().is_ok() || scripts.iter().any(is_script) {
        return finding("autostart", Verdict::Good, "skep-autostart begins with the machine", None);
    }
    finding(
        "autostart",
        Verdict::Limited,
        "containers are to begin with the machine, and nothing starts them",
        Some("install and enable skep-autostart.service, or the init script, of docs/boot"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_starts_containers_at_boot_is_found() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(judge_boot(root.path()).verdict, Verdict::Limited);
        fs::create_dir_all(root.path().join("etc/rc2.d")).unwrap();
        fs::write(root.path().join("etc/rc2.d/S20skep-autostart"), "").unwrap();
        assert_eq!(judge_boot(root.path()).verdict, Verdict::Good);
    }
}
