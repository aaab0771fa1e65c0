//! The document of a definition on disk: `edit`, `config`, `checkconfig`, edits by hand, documents of versions before.

use std::fs;
use std::path::Path;

use integration::defined::{Defined, text};
use integration::host::eventually;
use integration::requires::Need;
use integration::{case_with, json};

#[test]
fn what_a_person_writes_is_stored_as_written() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("web");
        d.create(&name, text(&d.base()), &["--memory", "64M"], &["true"]).ok();
        let path = d.folder(&name).join("definition.toml");
        d.edit(&name, "sed -i -e '1i # Written by hand.' -e 's/^memory = .*/memory = \"32M\" # enough/'").ok();
        let written = fs::read_to_string(&path).expect("read");
        assert!(
            written.starts_with("# Written by hand.\n") && written.contains("memory = \"32M\" # enough\n"),
            "{written}"
        );
        assert_eq!(d.call(&["config", "get", &name, "memory"]).ok().trim(), (32 << 20).to_string());
        // A change of one value leaves all else alone.
        d.call(&["config", "set", &name, "pids=9", "hostname=other"]).ok();
        let changed = fs::read_to_string(&path).expect("read");
        assert!(changed.contains("# Written by hand.") && changed.contains("memory = \"32M\" # enough\n"), "{changed}");
        assert_eq!(d.definition(&name)["limits"]["pids"], 9);
        d.call(&["config", "unset", &name, "pids"]).ok();
        assert!(!fs::read_to_string(&path).expect("read").contains("pids"));
        // So does another name.
        let other = d.name("other");
        d.call(&["rename", &name, &other]).ok();
        assert!(fs::read_to_string(d.folder(&other).join("definition.toml")).expect("read").contains("# enough"));
        d.call(&["destroy", &other]).ok();
    });
}

#[test]
fn an_editor_opens_what_cannot_be_read_and_saves_what_can() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("web");
        d.create(&name, text(&d.base()), &["--memory", "64M"], &["true"]).ok();
        let path = d.folder(&name).join("definition.toml");
        let sound = fs::read_to_string(&path).expect("read");
        let broken = sound.replacen("memory = ", "memory == ", 1);
        assert_ne!(broken, sound);
        fs::write(&path, &broken).expect("write");
        // What is still broken is not saved, nor what can be read and makes no sense; what was written is kept.
        let wrong = "sed -i -e 's/memory == /memory = /' -e 's/^cwd = .*/cwd = \"home\"/'";
        for (script, said, kept) in
            [("true", "error: nothing is changed\n", 0), (wrong, "nothing is changed; what you wrote is in", 1)]
        {
            d.edit(&name, script).fails_saying(said);
            assert_eq!(fs::read_to_string(&path).expect("read"), broken);
            let begin = format!("skep-{name}-");
            let entries = fs::read_dir(&sb.dir).expect("read").map(|entry| entry.expect("an entry").file_name());
            assert_eq!(entries.filter(|entry| entry.to_string_lossy().starts_with(&begin)).count(), kept, "{script}");
        }
        let mended = d.edit(&name, "sed -i 's/memory == /memory = /'");
        mended.ok();
        let said = mended.stderr_now();
        assert!(said.contains("definition.toml"), "{said}");
        assert_eq!(fs::read_to_string(&path).expect("read"), sound);
        assert_eq!(d.call(&["config", "get", &name, "memory"]).ok().trim(), (64 << 20).to_string());
        let nobody = d.name("nobody");
        d.call(&["edit", &nobody]).fails_saying("is not defined");
        d.call(&["destroy", &name]).ok();
    });
}

#[test]
fn a_limit_that_the_kernel_refuses_leaves_definition_and_container_as_they_were() {
    case_with(&[Need::Skep, Need::V1("memory")], |sb| {
        let d = Defined::new(sb);
        let name = d.name("full");
        let fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=24 2>/dev/null; echo full; exec sleep 1000";
        d.create(&name, text(&d.base()), &["--memory", "64M"], &["sh", "-c", fill]).ok();
        d.call(&["start", &name]).ok();
        eventually("it uses memory", || d.log(&name).contains("full"));
        let path = d.folder(&name).join("definition.toml");
        let before = fs::read_to_string(&path).expect("read");
        let same = || {
            assert_eq!(fs::read_to_string(&path).expect("read"), before);
            sb.cgroup_is("memory", &name, "memory.limit_in_bytes", "67108864");
        };
        // Files in memory cannot be taken back.
        d.edit(&name, "sed -i 's/^memory = .*/memory = \"8M\"/'")
            .fails_saying("nothing is changed; what you wrote is in");
        same();
        d.call(&["config", "set", &name, "memory=8M"]).fails_saying("the container keeps its limits");
        same();
        // A definition that cannot be written is not in force either. Nobody replaces what something is mounted on.
        let held = Mount::bind(&path);
        d.edit(&name, "sed -i 's/^memory = .*/memory = \"48M\"/'").fails_saying("nothing is changed");
        d.call(&["config", "set", &name, "memory=48M"]).fails_saying("definition.toml");
        same();
        drop(held);
        d.edit(&name, "sed -i 's/^memory = .*/memory = \"48M\"/'").ok();
        sb.cgroup_is("memory", &name, "memory.limit_in_bytes", "50331648");
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}

/// A file that is mounted on itself, until this is dropped.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn bind(path: &Path) -> Mount<'_> {
        rustix::mount::mount_bind(path, path).expect("mount");
        Mount(path)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
}

#[test]
fn what_is_wrong_is_told_with_file_and_line_and_never_lost() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (good, bad) = (d.name("good"), d.name("bad"));
        for name in [&good, &bad] {
            d.create(name, text(&d.base()), &[], &["true"]).ok();
        }
        assert_eq!(d.call(&["checkconfig"]).ok(), "");
        let path = d.folder(&bad).join("definition.toml");
        let sound = fs::read_to_string(&path).expect("read");
        let lines = sound.lines().count();
        let wrong = sound.replace("stop_signal = \"TERM\"", "stop_signal = 15") + "\n[limts]\nmemory = 1\n";
        fs::write(&path, &wrong).expect("write");
        let checked = d.call(&["checkconfig"]);
        checked.fails();
        let told = checked.stdout_now();
        assert!(
            told.contains(&format!(
                "{}:{}: limts: there is no such key, did you mean limits?",
                path.display(),
                lines + 2
            )),
            "{told}"
        );
        assert!(told.contains(": stop_signal: want text such as \"TERM\"") && !told.contains(&good), "{told}");
        let json = d.call(&["checkconfig", &bad, &good, "-o", "json"]).stdout_now();
        let json: integration::Value = json.parse().expect("JSON");
        assert_eq!(json[0]["findings"].as_array().map(Vec::len), Some(2), "{json}");
        assert_eq!((&json[1]["name"], &json[1]["findings"]), (&json!(good), &json!([])));
        for verb in [&["start", &bad][..], &["config", "set", &bad, "pids=9"], &["snapshot", &bad]] {
            d.call(verb).fails_saying("definition.toml");
            assert_eq!(fs::read_to_string(&path).expect("read"), wrong);
        }
        // Its form is right, a value is not.
        fs::write(&path, sound.replace("cwd = \"/\"", "cwd = \"home\"")).expect("write");
        let said = d.call(&["start", &bad]).fails();
        assert!(
            said.contains("process.cwd: \"home\" must be an absolute path") && said.contains("definition.toml:"),
            "{said}"
        );
        // A file of no container.
        let file = sb.dir.join("some.toml");
        fs::write(&file, "schema = \n").expect("write");
        let checked = d.call(&["checkconfig", text(&file)]);
        checked.fails();
        assert!(checked.stdout_now().starts_with(&format!("{}:1: ", file.display())), "{checked:?}");
        d.call(&["checkconfig", "nobody"]).fails();
        d.call(&["destroy", "--force", &good, &bad]).ok();
    });
}

#[test]
fn a_document_of_a_version_before_is_converted_once() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("old");
        d.create(&name, text(&d.base()), &["--memory", "64M"], &["sleep", "1000"]).ok();
        let (new, old) = (d.folder(&name).join("definition.toml"), d.folder(&name).join("definition.json"));
        fs::write(&old, d.definition(&name).to_string()).expect("write");
        fs::remove_file(&new).expect("remove");
        assert_eq!(d.listed(&name)["state"], "stopped");
        assert!(old.exists(), "looking changes nothing");
        d.call(&["start", &name]).ok();
        assert!(!old.exists());
        assert_eq!(d.definition(&name)["limits"]["memory"], 64 << 20);
        d.call(&["destroy", "--force", &name]).ok();
    });
}
