//! The only way to standard output: text, aligned tables, JSON and YAML. Colours appear on a terminal only.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::NotWritten;

/// How a reading verb answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with every column.
    Wide,
    /// One JSON value.
    Json,
    Yaml,
}

/// `-o`, for verbs that read.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArg {
    /// How to print the answer.
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl FormatArg {
    /// Whether people read the answer rather than programs.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }
}

/// The writer of everything that a verb answers. Notes and warnings go to standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    colours: bool,
}

impl Output {
    pub(crate) fn new() -> Self {
        let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: io::stdout().is_terminal() && !asked_not_to,
        }
    }

    /// Text as it is, with a newline at its end.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(NotWritten::wrap)
    }

    /// Text as it is, without anything added.
    pub(crate) fn raw(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref())
            .and_then(|()| out.flush())
            .map_err(NotWritten::wrap)
    }

    /// One JSON value on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value)?)?)
    }

    /// One YAML document.
    pub(crate) fn yaml(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_saphyr::to_string(value)?;
        Ok(self.line(text.trim_end())?)
    }

    pub(crate) fn table(&self, table: &Table) -> io::Result<()> {
        self.raw(table.render())
    }

    /// The same facts as JSON or YAML, or the table that `table` makes when told whether it may be wide.
    pub(crate) fn answer(
        &self,
        format: Format,
        value: &impl Serialize,
        table: impl FnOnce(bool) -> Table,
    ) -> anyhow::Result<()> {
        match format {
            Format::Json => self.json(value),
            Format::Yaml => self.yaml(value),
            Format::Table => Ok(self.table(&table(false))?),
            Format::Wide => Ok(self.table(&table(true))?),
        }
    }

    /// A remark for people; never part of the answer.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        // A closed standard error takes nothing from the answer.
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        self.note(format!("warning: {}", text.as_ref()));
    }

    /// The colour to paint with, if this is a terminal.
    pub(crate) fn colour(&self, paint: Paint) -> Option<Paint> {
        self.colours.then_some(paint)
    }

    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colours {
            paint.around(text)
        } else {
            text.to_owned()
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Paint {
    Good,
    Warning,
    Bad,
    Faint,
}

impl Paint {
    fn around(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }

    fn code(self) -> u8 {
        match self {
            Paint::Good => 32,
            Paint::Warning => 33,
            Paint::Bad => 31,
            Paint::Faint => 2,
        }
    }
}

/// Rows under a heading, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    /// By row and column; painted after the columns are aligned, for escape sequences have no width.
    painted: BTreeMap<(usize, usize), Paint>,
}

impl Table {
    pub(crate) fn new<const COLUMNS: usize>(heading: [&str; COLUMNS]) -> Self {
        Self {
            heading: heading.map(str::to_owned).to_vec(),
            rows: Vec::new(),
            painted: BTreeMap::new(),
        }
    }

    /// Adds further columns; `row` is then given as many cells.
    pub(crate) fn with_columns(mut self, further: &[&str]) -> Self {
        self.heading
            .extend(further.iter().map(|&name| name.to_owned()));
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Paints a cell of the last row.
    pub(crate) fn paint_last(&mut self, column: usize, colour: Option<Paint>) {
        if let (Some(row), Some(paint)) = (self.rows.len().checked_sub(1), colour) {
            self.painted.insert((row, column), paint);
        }
    }

    pub(crate) fn render(&self) -> String {
        let mut widths = vec![0; self.heading.len()];
        for row in std::iter::once(&self.heading).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = line(&self.heading, &widths, |_| None);
        for (number, row) in self.rows.iter().enumerate() {
            text.push_str(&line(row, &widths, |column| {
                self.painted.get(&(number, column)).copied()
            }));
        }
        text
    }
}

fn line(row: &[String], widths: &[usize], colour: impl Fn(usize) -> Option<Paint>) -> String {
    let mut text = String::new();
    for (column, (width, cell)) in widths.iter().zip(row).enumerate() {
        match colour(column) {
            Some(paint) => text.push_str(&paint.around(cell)),
            None => text.push_str(cell),
        }
        text.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The text with control characters escaped: names, paths and reasons come from peers, and a terminal obeys them.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What stands in a cell that has nothing to say.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

const GAP: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "AGE"]);
        table.row(["shop/web-reads-orders".to_owned(), "2".to_owned()]);
        table.row(["a".to_owned(), "10".to_owned()]);
        assert_eq!(
            table.render(),
            "NAME                    AGE\nshop/web-reads-orders   2\na                       10\n"
        );
    }

    #[test]
    fn row_15_control_characters_of_a_peer_do_not_reach_the_terminal() {
        let mut table = Table::new(["PATH"]);
        table.row(["/a\x1b[31m\nb".to_owned()]);
        assert_eq!(table.render(), "PATH\n/a\\u{1b}[31m\\nb\n");
    }

    #[test]
    fn nothing_is_painted_without_a_terminal() {
        assert_eq!(Output { colours: false }.paint(Paint::Bad, "×"), "×");
        assert_eq!(
            Output { colours: true }.paint(Paint::Bad, "×"),
            "\x1b[31m×\x1b[0m"
        );
    }
}
