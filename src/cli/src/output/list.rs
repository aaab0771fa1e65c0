//! `list`: the containers below one root.

use runtime_spec::state::State;

use super::render_json;
use super::table::render_table;
use crate::args::command::{Format, ListArgs};

/// Renders what `list` prints: ids, a table, or a JSON array on one line. Without containers that is nothing, the
/// header, or `[]`.
///
/// # Errors
/// None that can happen: all keys are text.
pub fn render_list(containers: &[State], how: ListArgs) -> serde_json::Result<String> {
    match how {
        ListArgs { quiet: true, .. } => Ok(containers.iter().map(|c| format!("{}\n", c.id)).collect()),
        ListArgs { format: Format::Json, .. } => render_json(containers),
        ListArgs { format: Format::Table, .. } => Ok(render_rows(containers)),
    }
}

fn render_rows(containers: &[State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec();
    let rows = containers.iter().map(|c| {
        let (pid, status) = (c.pid.unwrap_or(0).to_string(), c.status.name().to_owned());
        let (created, owner) = (c.created.clone().unwrap_or_default(), c.owner.clone().unwrap_or_default());
        vec![c.id.clone(), pid, status, c.bundle.clone(), created, owner]
    });
    render_table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// The name of a user id in the text of `/etc/passwd`, or `#` and the id. Other sources of names are not asked: a
/// static program has no NSS.
#[must_use]
pub fn owner_name(passwd: &str, uid: u32) -> String {
    let entry = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(1)?;
        (id.parse() == Ok(uid)).then_some(name)
    });
    entry.map_or_else(|| format!("#{uid}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use runtime_spec::state::Status;

    use super::super::state::sample;
    use super::*;

    #[track_caller]
    fn check(containers: &[State], format: Format, quiet: bool, expected: &str) {
        assert_eq!(render_list(containers, ListArgs { format, quiet, usage: false }).expect("JSON"), expected);
    }

    #[test]
    fn nothing_to_list() {
        check(&[], Format::Json, false, "[]\n");
        check(&[], Format::Table, true, "");
        check(&[], Format::Table, false, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }

    #[test]
    fn two_containers() {
        let root = State { owner: Some("root".to_owned()), ..sample("web") };
        let stopped = State { pid: Some(0), status: Status::Stopped, owner: Some("#7".to_owned()), ..sample("db") };
        let both = [root, stopped];
        check(&both, Format::Json, true, "web\ndb\n");
        let expected = "\
ID          PID         STATUS      BUNDLE         CREATED                          OWNER
web         4242        running     /bundles/web   2026-08-19T12:34:56.000000789Z   root
db          0           stopped     /bundles/web   2026-08-19T12:34:56.000000789Z   #7
";
        check(&both, Format::Table, false, expected);
        let expected = r#"[{"ociVersion":"1.3.0","id":"web","pid":4242,"status":"running","bundle":"/bundles/web","#;
        assert!(
            render_list(&both, ListArgs { format: Format::Json, quiet: false, usage: false })
                .expect("JSON")
                .starts_with(expected)
        );
    }

    #[test]
    fn owners() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(owner_name(passwd, 0), "root");
        assert_eq!(owner_name(passwd, 1000), "alice");
        assert_eq!(owner_name(passwd, 1001), "#1001");
        assert_eq!(owner_name("", 0), "#0");
    }
}
