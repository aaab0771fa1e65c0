//! `copy` and `rename`.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::args_kept::CopyArgs;
use crate::changes;
use crate::copied;
use crate::definition::{Definition, Network};
use crate::links;
use crate::lxc;
use crate::ops::{create, destroy, need_stopped, snapshot};
use crate::output::{self, tell};
use crate::pending::{self, Intent};
use crate::places::{Lock, now, validate_name};
use crate::run::Manager;

/// `copy NAME NEW`: a container that begins with the files of another. Both refer to the same frozen changes, and each has
/// an upper layer of its own from then on.
///
/// # Errors
/// The new name is taken; what the kernel or the runtime says. Then there is no new container.
pub fn copy(manager: &Manager, args: &CopyArgs) -> Result<()> {
    let places = &manager.places;
    validate_name("container", &args.to)?;
    let _locks = lock_both(manager, args)?;
    let source = Definition::need(places, &args.from)?;
    create::need_free(manager, &args.to)?;
    let _kept = changes::lock(places)?;
    let mut definition = plan_copy(&source, &args.to);
    definition.created = now();
    let allocate = definition.ids.is_some();
    let _ids_stay = create::renew(manager, &mut definition, allocate)?;
    let alone = match copied::is_alone(places, &source)? {
        true => Some(changes::folder(places, &snapshot::copy_alone(manager, &source)?)),
        false => {
            definition.changes = snapshot::freeze(manager, source, None)?;
            None
        }
    };
    let begin = alone.as_ref().map(|folder| folder.join("root"));
    let added = create::add(manager, &definition, begin.as_deref());
    // Nothing refers to it; `gc` would take it away too.
    added.and(alone.map_or(Ok(()), |folder| changes::discard(places, &folder)))?;
    let told = [("LXC_NAME", args.to.as_str()), ("LXC_SRC_NAME", &args.from)];
    if let Err(error) = lxc::run_hooks(&definition, "clone", &told, None) {
        destroy::remove(manager, &args.to)?;
        return Err(error);
    }
    output::write(&format!("{}\n", args.to))
}

/// The definition of a copy. What only one container can have is not copied, and that is told.
fn plan_copy(source: &Definition, name: &str) -> Definition {
    let mut copy = source.clone();
    name.clone_into(&mut copy.name);
    if source.hostname == source.name {
        name.clone_into(&mut copy.hostname);
    }
    if !copy.publish.is_empty() {
        tell(&format!("note: {name:?} publishes no ports: those of the host lead to {:?}", source.name));
        copy.publish.clear();
    }
    if let Network::Managed { addresses, .. } | Network::Cni { addresses, .. } = &mut copy.network
        && !addresses.is_empty()
    {
        tell(&format!("note: {name:?} gets other addresses: {} are those of {:?}", addresses.join(", "), source.name));
        addresses.clear();
    }
    for link in links::take_own(&mut copy.links) {
        tell(&format!(
            "note: {name:?} has no link {link:?}: its addresses or its device are those of {:?}",
            source.name
        ));
    }
    copy
}

/// `rename NAME NEW`: a stopped container gets another name.
///
/// # Errors
/// It runs, or the new name is taken; what the kernel says. Then it has its old name.
pub fn rename(manager: &Manager, args: &CopyArgs) -> Result<()> {
    let places = &manager.places;
    validate_name("container", &args.to)?;
    let _locks = lock_both(manager, args)?;
    Definition::need(places, &args.from)?;
    need_stopped(manager, &args.from)?;
    create::need_free(manager, &args.to)?;
    let intent = Intent::Rename { from: args.from.clone(), to: args.to.clone() };
    let (old, new) = (places.container(&args.from), places.container(&args.to));
    pending::perform(manager, &args.from, &intent, || {
        fs::rename(&old, &new).with_context(|| format!("cannot rename {} to {}", old.display(), new.display()))
    })?;
    // What was under way has moved with the folder.
    pending::settle(manager, &args.to)
}

/// Both locks, always in the same order, so that two commands cannot wait for each other.
fn lock_both(manager: &Manager, args: &CopyArgs) -> Result<(Lock, Lock)> {
    let (from, to) = (&args.from, &args.to);
    if from == to {
        bail!("both names are {from:?}");
    }
    let (first, second) = if from < to { (from, to) } else { (to, from) };
    Ok((pending::lock(manager, first)?, pending::lock(manager, second)?))
}
