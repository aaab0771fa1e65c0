//! What the options of `exec` change in the process of the container's definition.

use runtime_spec::oci::{Capabilities, Process};

use crate::args::command::ExecArgs;

/// Replaces the command and applies the options; what they do not name stays as in the definition.
///
/// A terminal is only there when asked for, whatever the definition says.
#[must_use]
pub fn override_process(mut process: Process, args: &ExecArgs) -> Process {
    process.args = Some(args.command.clone());
    process.terminal = Some(args.tty);
    process.cwd = args.cwd.clone().or(process.cwd);
    process.apparmor_profile = args.apparmor.clone().or(process.apparmor_profile);
    process.selinux_label = args.process_label.clone().or(process.selinux_label);
    process.no_new_privileges = args.no_new_privs.or(process.no_new_privileges);
    extend(&mut process.env, &args.env);
    if !args.caps.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &args.caps);
    }
    let user = process.user.get_or_insert_default();
    if let Some(given) = args.user {
        user.uid = Some(given.uid);
        user.gid = given.gid.or(user.gid);
    }
    extend(&mut user.additional_gids, &args.additional_gids);
    process
}

/// Adds to the sets that an executed program gets. The ambient set can only hold what is inheritable too, so it grows
/// only where the definition has an inheritable set.
fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    extend(&mut sets.bounding, names);
    extend(&mut sets.effective, names);
    extend(&mut sets.permitted, names);
    if sets.inheritable.is_some() {
        extend(&mut sets.ambient, names);
    }
}

fn extend<T: Clone>(list: &mut Option<Vec<T>>, more: &[T]) {
    if !more.is_empty() {
        list.get_or_insert_default().extend_from_slice(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::command::UserArg;

    #[track_caller]
    fn check(definition: &str, args: &ExecArgs, expected: &str) {
        let (process, findings) = runtime_spec::oci::parse::<Process>(definition.as_bytes());
        assert_eq!(findings, []);
        let process = override_process(process.expect("a process"), args);
        assert_eq!(serde_json::to_string(&process).expect("JSON"), expected);
    }

    fn args(command: &str) -> ExecArgs {
        ExecArgs { command: vec![command.to_owned()], ..ExecArgs::default() }
    }

    #[test]
    fn the_definition_stays_where_no_option_names_it() {
        check(
            r#"{"terminal":true,"user":{"uid":1,"gid":2,"additionalGids":[3]},"args":["a","b"],"env":["A=1"],"cwd":"/c"}"#,
            &args("x"),
            r#"{"terminal":false,"user":{"uid":1,"gid":2,"additionalGids":[3]},"args":["x"],"env":["A=1"],"cwd":"/c"}"#,
        );
    }

    #[test]
    fn each_option_changes_its_field() {
        let args = ExecArgs {
            tty: true,
            cwd: Some("/d".to_owned()),
            env: vec!["A=2".to_owned()],
            user: Some(UserArg { uid: 7, gid: None }),
            additional_gids: vec![9],
            apparmor: Some("p".to_owned()),
            process_label: Some("l".to_owned()),
            no_new_privs: Some(false),
            ..args("x")
        };
        check(
            r#"{"user":{"uid":1,"gid":2},"args":["a"],"env":["A=1"],"cwd":"/c","noNewPrivileges":true}"#,
            &args,
            r#"{"terminal":true,"user":{"uid":7,"gid":2,"additionalGids":[9]},"args":["x"],"env":["A=1","A=2"],"cwd":"/d","noNewPrivileges":false,"apparmorProfile":"p","selinuxLabel":"l"}"#,
        );
    }

    #[test]
    fn a_capability_is_ambient_only_beside_an_inheritable_set() {
        let args = ExecArgs { caps: vec!["CAP_KILL".to_owned()], ..args("x") };
        check(
            r#"{"capabilities":{"bounding":["CAP_CHOWN"],"inheritable":[]}}"#,
            &args,
            r#"{"terminal":false,"user":{},"args":["x"],"capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_KILL"],"inheritable":[],"permitted":["CAP_KILL"],"ambient":["CAP_KILL"]}}"#,
        );
        check(
            "{}",
            &args,
            r#"{"terminal":false,"user":{},"args":["x"],"capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]}}"#,
        );
    }
}
