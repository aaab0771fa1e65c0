//! `--trace`: the file of a command's phases and steps, against the plan and the outcome.

use std::fs;
use std::path::Path;

use integration::defined::{Defined, text};
use integration::requires::Need;
use integration::{Value, case_with, json};

/// The complete events of a Chrome trace.
fn events(path: &Path) -> Vec<Value> {
    let trace: Value = fs::read_to_string(path).expect("read the trace").parse().expect("a trace is JSON");
    let events = trace.as_array().expect("an array of events").clone();
    events.into_iter().filter(|event| event["ph"] == "X").collect()
}

/// Names of the events of one row: 1 is the host side, 2 the container's.
fn names(events: &[Value], row: u64) -> Vec<&str> {
    events.iter().filter(|e| e["tid"] == row).map(|e| e["name"].as_str().expect("a name")).collect()
}

fn number(event: &Value, field: &str) -> f64 {
    event[field].as_f64().expect("a number")
}

#[test]
fn a_run_is_told_phase_by_phase_and_step_by_step() {
    case_with(&[Need::Skep], |sb| {
        let b = sb.bundle().args(&["sh", "-c", "exit 3"]);
        b.write();
        let plan = sb.call(&["plan", "--json", "--bundle"]).arg(&b.dir).arg(&b.id).run().json();
        let file = sb.dir.join("run.json");
        let call = sb.call(&["--trace"]).arg(&file).args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
        call.run().code_is(3);
        let events = events(&file);
        let (host, child) = (names(&events, 1), names(&events, 2));
        for phase in ["protect", "arguments", "command", "read_config", "probe_host", "plan", "program_runs", "delete"]
        {
            assert_eq!(host.iter().filter(|name| **name == phase).count(), 1, "{phase}");
        }
        for step in plan["host"].as_array().expect("steps") {
            assert!(host.contains(&step["step"].as_str().expect("a name")), "{}", step["step"]);
        }
        assert!(child.contains(&"change_root") && child.contains(&"become_user"));
        // Both sides measure with one clock: what the container's side does lies within the command.
        let whole = events.iter().find(|event| event["name"] == "command").expect("the command");
        let end = number(whole, "ts") + number(whole, "dur");
        for event in events.iter().filter(|event| event["tid"] == 2) {
            assert!(number(event, "ts") >= number(whole, "ts") && number(event, "ts") + number(event, "dur") <= end);
        }
    });
}

#[test]
fn other_commands_and_failures_are_told_as_text() {
    case_with(&[Need::Skep], |sb| {
        let box_ = sb.detached(&sb.bundle().sleeper());
        let file = sb.dir.join("trace.txt");
        for (command, wanted) in [
            (vec!["exec", &box_.id, "true"], vec!["read_record", "open_container", "join_container", "program_runs"]),
            (vec!["state", &box_.id], vec!["command"]),
            (vec!["delete", "--force", &box_.id], vec!["kill", "undo", "remove_record"]),
        ] {
            sb.call(&["--trace"]).arg(&file).args(&command).run().ok();
            let text = fs::read_to_string(&file).expect("read the trace");
            assert!(text.starts_with(&format!("skep {}: ", command[0])), "{text}");
            for name in wanted {
                assert!(text.contains(&format!(" {name}\n")), "{name} is not in\n{text}");
            }
        }
        let call = sb.call(&["--trace"]).arg(&file).args(["state", &box_.id]);
        call.run().fails_saying("does not exist");
        assert!(fs::read_to_string(&file).expect("read the trace").starts_with("skep state: "));
    });
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_is_done() {
    case_with(&[Need::Skep], |sb| {
        let b = sb.bundle().sleeper();
        b.write();
        let file = sb.dir.join("nowhere/trace.txt");
        let call = sb.call(&["--trace"]).arg(&file).args(["create", "--bundle"]).arg(&b.dir).arg(&b.id);
        call.run().fails_saying("cannot write the trace to");
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
        sb.call(&["--trace", "", "list"]).run().fails_saying("the file needs a name");
    });
}

#[test]
fn a_defined_containers_start_names_its_calls_of_the_runtime() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, base) = (d.name("web"), d.base());
        d.create(&web, text(&base), &[], &["sleep", "1000"]).ok();
        let file = sb.dir.join("start.json");
        d.call(&["--trace", text(&file), "start", &web]).ok();
        let events = events(&file);
        let names = names(&events, 1);
        for name in ["recover", "prepare_bundle", "network", "launch", "command"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert_eq!(d.listed(&web)["state"], json!("running"));
        d.call(&["--trace", text(&file), "stop", "--time", "0", &web]).ok();
        let events = self::events(&file);
        let names = self::names(&events, 1);
        assert!(names.contains(&"skep delete"), "{names:?}");
        d.call(&["destroy", "--force", &web]).ok();
    });
}
