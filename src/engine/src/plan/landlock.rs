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
