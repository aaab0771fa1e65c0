//! How far a long operation is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use rootfs_tools::Progress;

use crate::output::tell;
use crate::size::render_size;

/// Shows progress on standard error.
#[derive(Debug)]
pub struct Shown {
    what: String,
    bar: Option<ProgressBar>,
    done: u64,
}

impl Shown {
    /// For an operation with this name.
    #[must_use]
    pub fn new(what: &str) -> Shown {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::no_length);
        Shown { what: what.to_owned(), bar, done: 0 }
    }
}

impl Progress for Shown {
    fn started(&mut self, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        bar.set_message(self.what.clone());
        match total {
            Some(total) => {
                bar.set_length(total);
                bar.set_style(style("{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left"));
            }
            None => bar.set_style(style("{msg} {spinner} {binary_bytes}")),
        }
    }

    fn advanced(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell(text),
        }
    }

    fn finished(&mut self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => tell(&format!("{}: {} read", self.what, render_size(self.done))),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
