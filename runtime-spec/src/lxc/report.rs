//! What became of each key.

use serde::Serialize;

use super::Place;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It means the same.
    Translated,
    /// It comes near.
    Approximated,
    /// It has no effect.
    NotPossible,
}

/// A key and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// What it became, or why it did not.
    pub what: String,
}

/// What became of a configuration. Each key is in exactly one of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What means the same.
    pub translated: Vec<Item>,
    /// What comes near.
    pub approximated: Vec<Item>,
    /// What has no effect.
    pub not_possible: Vec<Item>,
}

impl Report {
    pub(super) fn add(&mut self, fate: Fate, item: Item) {
        match fate {
            Fate::Translated => self.translated.push(item),
            Fate::Approximated => self.approximated.push(item),
            Fate::NotPossible => self.not_possible.push(item),
        }
    }

    /// What became of a key, once for each of its values.
    #[must_use]
    pub fn fates(&self, key: &str) -> Vec<Fate> {
        let lists = [
            (Fate::Translated, &self.translated),
            (Fate::Approximated, &self.approximated),
            (Fate::NotPossible, &self.not_possible),
        ];
        let of = |(fate, list): (Fate, &Vec<Item>)| vec![fate; list.iter().filter(|item| item.key == key).count()];
        lists.into_iter().flat_map(of).collect()
    }

    /// Renders the report for people: a heading for each list that has something.
    #[must_use]
    pub fn render(&self) -> String {
        let lists = [
            ("translated", &self.translated),
            ("approximated", &self.approximated),
            ("not possible", &self.not_possible),
        ];
        let mut text = String::new();
        for (heading, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            text.push_str(&format!("{heading}:\n"));
            for Item { key, value, place, what } in list {
                text.push_str(&format!("  {key} = {value}  ({place})\n      {what}\n"));
            }
        }
        text
    }
}
