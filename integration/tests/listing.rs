//! `ls` and `top`: what is shown, in which forms, again and again.

use std::time::Duration;

use integration::defined::{Defined, text};
use integration::requires::Need;
use integration::{case_with, json};

#[test]
fn a_list_shows_what_is_used_in_every_form() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let base = d.base();
        let (a, b, c) = (d.name("a"), d.name("b"), d.name("c"));
        d.create(&a, text(&base), &["--memory", "64M"], &["sleep", "1000"]).ok();
        d.create(&b, text(&base), &[], &["sh", "-c", "while :; do :; done"]).ok();
        d.create(&c, text(&base), &[], &["true"]).ok();
        d.call(&["start", &a, &b]).ok();
        std::thread::sleep(Duration::from_millis(1200));
        let table = d.call(&["ls"]).ok();
        let header: Vec<&str> = table.lines().next().expect("a header").split_whitespace().collect();
        assert_eq!(header, ["NAME", "STATE", "IPV4", "IPV6", "CPU", "MEM", "PIDS", "UPTIME", "TEMPLATE"]);
        assert_eq!(table.lines().count(), 4, "{table}");
        let wide = d.call(&["ls", "-o", "wide"]).ok();
        assert!(wide.lines().next().is_some_and(|header| header.contains("COMMAND") && header.contains("TEMPLATE")));
        let row = d.listed(&b);
        let share = row["cpu_percent"].as_f64().expect("a share");
        assert!(share > 1.0 && share < 250.0, "{row}");
        assert_eq!((&row["usage"]["pids"], &row["defined"]), (&json!(1), &json!(true)));
        assert_eq!(d.listed(&a)["memory_limit"], 64 << 20);
        assert_eq!(d.listed(&c)["usage"], json!(null));
        // Sorted by number, the greatest first; what does not run has nothing.
        let sorted = d.call(&["ls", "--sort", "-cpu", "-o", "name"]).ok();
        assert_eq!(sorted.lines().collect::<Vec<_>>(), [&b, &a, &c]);
        let csv = d.call(&["ls", "-o", "csv", "--columns", "name,limit,state", "-f", &format!("name={a}")]).ok();
        assert_eq!(csv.lines().collect::<Vec<_>>(), ["name,limit,state", &format!("{a},{},running", 64 << 20)]);
        let left = d.call(&["ls", "-q", "-f", "state!=running"]).ok();
        assert_eq!(left, c);
        let left = d.call(&["ls", "-q", "-f", &format!("name={}-*", sb.name), "-f", "pids=1", "-f", "limit="]).ok();
        assert_eq!(left, b);
        d.call(&["ls", "--columns", "colour"]).fails();
        d.call(&["destroy", "--force", &a, &b, &c]).ok();
    });
}

#[test]
fn a_list_goes_on_until_nobody_reads_it() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let a = d.name("a");
        d.create(&a, text(&d.base()), &[], &["sleep", "1000"]).ok();
        d.call(&["start", &a]).ok();
        let line = format!(
            "timeout --signal=INT 20 \"$0\" --root {} ls --watch 0.3 -o json | sed 3q; echo code ${{PIPESTATUS[0]}}",
            text(&sb.root)
        );
        let shown = sb
            .program("/bin/bash")
            .args(["-c", &line, text(&sb.runtime.path)])
            .env("SKEP_DATA", text(&d.data))
            .run()
            .ok();
        let lines: Vec<&str> = shown.lines().collect();
        // It ends when nobody reads any more.
        assert!(lines.len() == 4 && lines.last() == Some(&"code 0"), "{shown}");
        for line in &lines[..lines.len() - 1] {
            let rows: integration::Value = line.parse().expect("one document a line");
            assert_eq!(rows[0]["name"], json!(a));
        }
        let top = d.call(&["top", "--json", "--number", "1", "--delay", "0.2"]).ok();
        let rows: integration::Value = top.parse().expect("JSON");
        assert_eq!((&rows[0]["name"], &rows[0]["state"]), (&json!(a), &json!("running")));
        d.call(&["destroy", "--force", &a]).ok();
    });
}

/// What an engine has made below the same root is listed with what is defined, and is no container of LXC's.
#[test]
fn a_list_shows_containers_of_engines() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let container = sb.detached(&sb.bundle().args(&["sleep", "1000"]));
        let row = d.listed(&container.id);
        assert_eq!((&row["defined"], &row["state"]), (&json!(false), &json!("running")));
        assert_eq!(row["usage"]["pids"], 1, "{row}");
        assert_eq!(d.call(&["ls", "-q", "-f", "defined=true"]).ok(), "");
        sb.delete_force(&container.id).ok();
    });
}
