//! Something that is shown again and again: on a terminal in the place of what was there, elsewhere one below the other.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::output;

/// The other screen of a terminal, without a cursor.
const ON: &str = "\x1b[?1049h\x1b[?25l";
/// What was there before.
const OFF: &str = "\x1b[?25h\x1b[?1049l";
/// Rows and columns of a terminal that does not tell.
const USUAL: (u16, u16) = (24, 80);

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Never in the place of what was there.
    pub plain: bool,
    /// Until it is shown first.
    pub first: Duration,
    /// Between two times.
    pub pause: Duration,
    /// How often; `None` until somebody leaves.
    pub number: Option<u64>,
}

/// What it is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Time has passed: look again.
    Time,
    /// A key was pressed.
    Key(u8),
    /// The terminal has another size.
    Resized,
}

/// Shows what `render` makes, until somebody presses q, ends it by a signal, or reads no more. `render` is told the rows of the
/// terminal, `None` where there is none; `None` from it is nothing new.
///
/// # Errors
/// What `render` says. The terminal is as before in any case.
pub fn show(plan: Plan, mut render: impl FnMut(Event, Option<usize>) -> Result<Option<String>>) -> Result<()> {
    let input = std::io::stdin();
    let screen = !plan.plain && std::io::stdout().is_terminal();
    let keys = screen && input.is_terminal();
    let signals = sys::signal::take_all()?;
    let before = if keys { Some(sys::terminal::make_raw(input.as_fd())?) } else { None };
    let shown = (|| -> Result<()> {
        if screen {
            output::write(ON)?;
        }
        let (mut round, mut until) = (0, Instant::now() + plan.first);
        loop {
            let event = match wait(until, &signals, keys.then(|| input.as_fd()))? {
                None => return Ok(()),
                Some(event) => event,
            };
            if event == Event::Time {
                round += 1;
                until = Instant::now() + plan.pause;
            }
            if let Some(text) = render(event, screen.then(|| size().0))?
                && !output::write_open(&if screen { on_screen(&text, size()) } else { text })?
            {
                return Ok(());
            }
            if plan.number.is_some_and(|number| round >= number) {
                return Ok(());
            }
        }
    })();
    if screen {
        output::write(OFF)?;
    }
    if let Some(before) = before {
        sys::terminal::restore(input.as_fd(), &before)?;
    }
    shown
}

/// Waits for the time, a key or a signal; `None` where somebody wants to leave.
fn wait(until: Instant, signals: &OwnedFd, input: Option<BorrowedFd<'_>>) -> Result<Option<Event>> {
    loop {
        let left_ms = sys::process::left_ms(until);
        if left_ms == 0 {
            return Ok(Some(Event::Time));
        }
        let watched: Vec<BorrowedFd<'_>> = std::iter::once(signals.as_fd()).chain(input).collect();
        let ready = sys::process::poll_readable(&watched, Some(left_ms))?;
        // Among them are those of which a program notices nothing otherwise.
        if ready[0].readable {
            match sys::signal::next(signals.as_fd())? {
                signal if sys::signal::asks_to_end(signal) => return Ok(None),
                sys::signal::SIGWINCH if input.is_some() => return Ok(Some(Event::Resized)),
                _ => {}
            }
        }
        if let Some(input) = input
            && ready[1].readable
        {
            let mut key = [0; 1];
            // q, Control-c, Control-d, or nobody is there any more.
            if sys::fs::read_some(input, &mut key)? == 0 || matches!(key[0], b'q' | 3 | 4) {
                return Ok(None);
            }
            return Ok(Some(Event::Key(key[0])));
        }
    }
}

/// Rows and columns.
fn size() -> (usize, usize) {
    let told = sys::terminal::size(std::io::stdout().as_fd()).ok().filter(|(rows, columns)| *rows > 0 && *columns > 0);
    let (rows, columns) = told.unwrap_or(USUAL);
    (usize::from(rows).max(4), usize::from(columns))
}

/// The text in the place of what was there: home, each line cleared to its end, then the rest of the screen. The terminal may
/// be a raw one. What has no place is left out.
fn on_screen(text: &str, (rows, columns): (usize, usize)) -> String {
    let lines: Vec<String> = text.lines().take(rows).map(|line| line.chars().take(columns).collect()).collect();
    format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_has_no_more_than_its_size() {
        let text = on_screen("one\ntwo-long\nthree\n", (2, 4));
        assert_eq!(text, "\x1b[Hone\x1b[K\r\ntwo-\x1b[K\x1b[J");
    }
}
