//! docs/definition.md says what a document may have: all of it, and nothing else.

use std::collections::BTreeSet;
use std::fs;

use manager::document;
use manager::keys::{KEYS, check, render_markdown};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/definition.md");
const BEGIN: &str =
    "<!-- The table of src/manager/src/keys.rs: UPDATE_DOCS=1 cargo test -p skep-manager --test definition_page -->\n";
const END: &str = "<!-- The end of the table. -->\n";

fn page() -> String {
    fs::read_to_string(PAGE).expect("read docs/definition.md")
}

/// The documents that the page shows.
fn shown() -> Vec<String> {
    let page = page();
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned()).collect()
}

#[test]
fn the_page_has_every_key() {
    let page = page();
    let (front, rest) = page.split_once(BEGIN).expect("the beginning of the table");
    let (table, back) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, [front, BEGIN, &render_markdown(), END, back].concat()).expect("write the page");
        return;
    }
    assert!(table == render_markdown(), "UPDATE_DOCS=1 cargo test -p skep-manager --test definition_page");
}

#[test]
fn what_the_page_shows_is_sound() {
    let shown = shown();
    assert!(shown.len() > 3);
    for text in shown {
        assert_eq!(check(&text, None), [], "{text}");
        document::parse(&text).expect("a definition");
    }
}

#[test]
fn each_example_is_a_value_of_its_kind() {
    for key in KEYS {
        let name = key.path.rsplit('.').next().expect("a name");
        // In the place of the key, in tables around it that have nothing else.
        let mut text = format!("{name} = {}", key.example);
        for part in key.path.rsplit('.').skip(1) {
            let table = format!("{{ {text} }}");
            text = match part.strip_suffix("[]") {
                Some(part) => format!("{part} = [{table}]"),
                None => format!("{part} = {table}"),
            };
        }
        let wrong: Vec<_> =
            check(&text, None).into_iter().filter(|finding| !finding.text.starts_with("it is missing")).collect();
        assert_eq!(wrong, [], "{}: {text}", key.path);
    }
}

/// Fields that the program knows at a place, as it tells them itself when one is unknown.
fn known(text: &str) -> BTreeSet<String> {
    let (_, said) = document::parse(text).expect_err("an unknown field");
    let (_, list) = said.split_once("expected ").unwrap_or_else(|| panic!("{said}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_has_the_fields_of_the_program_and_no_others() {
    let base = shown().remove(0);
    let below = |prefix: &str| -> BTreeSet<String> {
        let rest = KEYS.iter().filter_map(|key| key.path.strip_prefix(prefix));
        rest.filter(|rest| !rest.contains(['.', '['])).map(str::to_owned).collect()
    };
    assert_eq!(known(&format!("novelty = 1\n{base}")), below(""));
    for (place, text) in [
        ("limits.", "limits = { novelty = 1 }"),
        ("log.", "log = { novelty = 1 }"),
        ("process.", "process = { novelty = 1 }"),
        ("autostart.", "autostart = { novelty = 1 }"),
        ("system.", "system = { novelty = 1 }"),
        ("volumes[].", "volumes = [{ novelty = 1 }]"),
        ("devices[].", "devices = [{ novelty = 1 }]"),
        ("autostart.ready.", "autostart = { ready = { novelty = 1 } }"),
    ] {
        let name = text.split(' ').next().expect("a name");
        let mut table: toml::Table = toml::from_str(&base).expect("TOML");
        let novelty: toml::Table = toml::from_str(text).expect("TOML");
        table.insert(name.to_owned(), novelty[name].clone());
        assert_eq!(known(&table.to_string()), below(place), "{place}");
    }
}
