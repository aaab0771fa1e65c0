//! Landlock rules: what of them this kernel can enforce, and whether less than all will do.

use runtime_spec::landlock::{Landlock, Rights};

use super::Plan;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::step::ChildStep;

/// Where the rules stand.
pub(super) const FROM: &str = "/annotations/io.skep.landlock";

/// Makes the rule set, as root of the container and once nothing of the host is open any more: the paths are the
/// container's. Says whether there is one to be enforced later.
///
/// # Errors
/// Where the kernel does not know all that is asked for, unless the rules say that less will do.
pub(super) fn plan_ruleset(plan: &mut Plan, rules: Option<&Landlock>, facts: &HostFacts) -> Result<bool> {
    let Some(rules) = rules else { return Ok(false) };
    let abi = facts.landlock;
    let mut rules = rules.clone();
    for handled in [&mut rules.file_system, &mut rules.network, &mut rules.scoped] {
        let known = handled.known_to(abi);
        let missing = handled.without(known);
        if missing.is_empty() {
            continue;
        }
        let what = lacking(missing, abi);
        if !rules.best_effort {
            return Err(Error::Unsupported(format!("landlock: {what}; bestEffort would do without ({FROM})")));
        }
        plan.note(format!("landlock: {what}; not enforced, as bestEffort says"));
        *handled = known;
    }
    for rule in &mut rules.paths {
        rule.allowed = rule.allowed.known_to(abi);
    }
    for rule in &mut rules.ports {
        rule.allowed = rule.allowed.known_to(abi);
    }
    rules.paths.retain(|rule| !rule.allowed.is_empty());
    rules.ports.retain(|rule| !rule.allowed.is_empty());
    if rules.file_system.is_empty() && rules.network.is_empty() && rules.scoped.is_empty() {
        return Ok(false);
    }
    plan.child_from(FROM, ChildStep::MakeLandlockRuleset { rules: Box::new(rules) });
    Ok(true)
}

/// Why rights cannot be handled.
fn lacking(missing: Rights, abi: u32) -> String {
    let names = missing.names().collect::<Vec<_>>().join(", ");
    let needed = missing.needed_abi();
    match abi {
        0 => format!("this kernel has no Landlock, or none was enabled at boot ({names})"),
        _ => format!("this kernel speaks ABI {abi}, {names} came with ABI {needed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, names};
    use super::*;
    use crate::options::CreateOptions;

    fn plan(rules: &serde_json::Value, abi: u32, no_new_privileges: bool) -> Result<Plan> {
        let mut config = serde_json::to_value(runtime_spec::example::example(false)).unwrap();
        config["annotations"] = serde_json::json!({ "io.skep.landlock": rules.to_string() });
        config["process"]["noNewPrivileges"] = no_new_privileges.into();
        let report = runtime_spec::load(&serde_json::to_vec(&config).unwrap());
        let spec = report.spec.unwrap_or_else(|| panic!("{:?}", report.findings));
        let options = CreateOptions { id: "web1".to_owned(), rootfs: "/r".to_owned(), ..CreateOptions::default() };
        let facts = HostFacts { landlock: abi, ..facts(cgroup::Mode::Legacy) };
        super::super::plan_create(&spec, &facts, &options)
    }

    /// Handles one right to files and one to ports, and grants both somewhere.
    fn rules(best_effort: bool) -> serde_json::Value {
        serde_json::json!({
            "ruleset": { "handledAccessFS": ["write_file"], "handledAccessNet": ["bind_tcp"] },
            "rules": {
                "pathBeneath": [{ "allowedAccess": ["write_file"], "paths": ["/tmp"] }],
                "netPort": [{ "allowedAccess": ["bind_tcp"], "ports": [80] }],
            },
            "bestEffort": best_effort,
        })
    }

    fn made(plan: &Plan) -> Option<&Landlock> {
        plan.child.iter().find_map(|planned| match &planned.step {
            ChildStep::MakeLandlockRuleset { rules } => Some(rules.as_ref()),
            _ => None,
        })
    }

    #[test]
    fn rules_are_made_by_root_and_enforced_before_the_last_capset() {
        for no_new_privileges in [true, false] {
            let plan = plan(&rules(false), 4, no_new_privileges).unwrap();
            let names = names(&plan);
            let at = |name: &str| names.iter().position(|step| *step == name).unwrap_or_else(|| panic!("no {name}"));
            assert!(at("close_descriptors") < at("make_landlock_ruleset"));
            assert!(at("make_landlock_ruleset") < at("become_user"));
            assert!(at("find_program") < at("restrict_by_landlock"));
            assert_eq!(at("restrict_by_landlock") + 1, at("set_capabilities"));
            let kept =
                plan.child.iter().any(|p| matches!(p.step, ChildStep::BecomeUser { keep_for_seccomp: true, .. }));
            assert_eq!(kept, !no_new_privileges);
        }
    }

    #[test]
    fn a_kernel_that_knows_less_is_refused() {
        let error = |abi| plan(&rules(false), abi, true).unwrap_err().to_string();
        assert_eq!(
            error(3),
            "landlock: this kernel speaks ABI 3, bind_tcp came with ABI 4; bestEffort would do without \
             (/annotations/io.skep.landlock)"
        );
        assert!(error(0).contains("this kernel has no Landlock"), "{}", error(0));
    }

    #[test]
    fn best_effort_enforces_what_the_kernel_knows() {
        let plan3 = plan(&rules(true), 3, true).unwrap();
        let made3 = made(&plan3).unwrap();
        assert_eq!((made3.paths.len(), made3.ports.len(), made3.network.mask), (1, 0, 0));
        assert!(plan3.notes.iter().any(|note| note.contains("bind_tcp came with ABI 4")), "{:?}", plan3.notes);
        let plan0 = plan(&rules(true), 0, true).unwrap();
        assert!(made(&plan0).is_none() && !names(&plan0).contains(&"restrict_by_landlock"));
        assert_eq!(plan0.notes.iter().filter(|note| note.starts_with("landlock: ")).count(), 2);
    }
}
