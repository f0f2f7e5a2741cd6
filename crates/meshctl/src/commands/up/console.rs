//! The one writer of `up`: lines of several processes, each under its name, never mixed within a line.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::output::printable;

/// Where the lines of programs go: beside the table, or out of the way of a JSON answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    StandardOutput,
    StandardError,
}

#[derive(Debug, Clone)]
pub(super) struct Console {
    destination: Destination,
    width: usize,
    colours: bool,
    one_at_a_time: Arc<Mutex<()>>,
}

impl Console {
    /// `width` is the length of the longest name.
    pub(super) fn new(destination: Destination, width: usize) -> Self {
        let is_terminal = match destination {
            Destination::StandardOutput => io::stdout().is_terminal(),
            Destination::StandardError => io::stderr().is_terminal(),
        };
        let colours =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            destination,
            width,
            colours,
            one_at_a_time: Arc::default(),
        }
    }

    /// One line that a program wrote. Control characters are shown, not obeyed.
    pub(super) fn program(&self, name: &str, line: &str) {
        let width = self.width;
        let prefix = format!("{name:width$} | ");
        let prefix = if self.colours { faint(&prefix) } else { prefix };
        self.write(&format!("{prefix}{}\n", printable(line)));
    }

    /// One line of `up` itself.
    pub(super) fn note(&self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    fn write(&self, text: &str) {
        let _alone = self
            .one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Nobody reads: nothing is lost that anybody could have seen.
        let _ = match self.destination {
            Destination::StandardOutput => io::stdout().lock().write_all(text.as_bytes()),
            Destination::StandardError => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

fn faint(text: &str) -> String {
    format!("\x1b[2m{text}\x1b[0m")
}
