//! What a run says: on standard output, and kept for the files of `--save`.

use std::path::Path;

use anyhow::{Context, Result};

use crate::machine;
use crate::plot::{self, Group};
use crate::sample::{Samples, medians, render};

/// What is printed, and kept to be saved.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    groups: Vec<Group>,
}

impl Report {
    pub(crate) fn tell(&mut self, text: &str) {
        print!("{text}");
        self.text += text;
    }

    /// Prints the table of a case and keeps its medians to be drawn.
    pub(crate) fn add_table(&mut self, case: &str, samples: &[Samples]) {
        self.tell(&render(samples));
        self.groups.extend(medians(samples).into_iter().map(|(command, bars)| {
            let title = if command == "run" { case.to_owned() } else { format!("{case}: {command}") };
            Group { title, bars }
        }));
    }

    /// Writes the text and the drawing to files of today's date; `suffix` tells different kinds of runs apart.
    pub(crate) fn save(&self, dir: &Path, suffix: &str) -> Result<()> {
        let date = machine::now().0 + suffix;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (ending, text) in
            [("txt", &self.text), ("svg", &plot::render(&format!("skep and others, {date}"), &self.groups))]
        {
            let path = dir.join(format!("{date}.{ending}"));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("# written: {}", path.display());
        }
        Ok(())
    }
}
