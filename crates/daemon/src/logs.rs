//! Logs to standard error: one line an event. What a peer or a user wrote cannot start a new line or drive a terminal, because every
//! control character but the line's own end is escaped where the line leaves.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For collectors: a JSON object a line.
    Json,
}

/// The least important event that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(LevelFilter);

/// A word that names no format or level.
#[derive(Debug, thiserror::Error)]
#[error("expected one of {expected}")]
pub struct UnknownWord {
    expected: &'static str,
}

impl Default for Level {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl FromStr for Format {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownWord {
                expected: "text, json",
            }),
        }
    }
}

impl FromStr for Level {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let level = match text {
            "off" => LevelFilter::OFF,
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => {
                return Err(UnknownWord {
                    expected: "off, error, warn, info, debug, trace",
                });
            }
        };
        Ok(Self(level))
    }
}

/// Starts logging for the process. A second call changes nothing.
pub fn init(format: Format, level: Level) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level.0)
        .with_ansi(false)
        .with_writer(EscapedStderr { format });
    // Only a second subscriber can fail, and the first one goes on.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

struct EscapedStderr {
    format: Format,
}

impl<'a> MakeWriter<'a> for EscapedStderr {
    type Writer = Escaped<io::Stderr>;
    fn make_writer(&'a self) -> Self::Writer {
        Escaped {
            out: io::stderr(),
            format: self.format,
        }
    }
}

/// The subscriber hands over one whole line a write.
struct Escaped<W> {
    out: W,
    format: Format,
}

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        if body.chars().any(char::is_control) {
            let mut escaped = String::with_capacity(body.len() + 16);
            body.chars()
                .for_each(|c| escape_into(&mut escaped, c, self.format));
            escaped.push('\n');
            self.out.write_all(escaped.as_bytes())?;
        } else {
            self.out.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn escape_into(escaped: &mut String, c: char, format: Format) {
    if !c.is_control() {
        escaped.push(c);
        return;
    }
    // Writing to a `String` cannot fail.
    let _ = match format {
        Format::Text => write!(escaped, "\\u{{{:x}}}", u32::from(c)),
        Format::Json => write!(escaped, "\\u{:04x}", u32::from(c)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_15_control_characters_in_a_line_are_escaped_and_its_end_is_not() {
        let mut writer = Escaped {
            out: Vec::new(),
            format: Format::Text,
        };
        writer
            .write_all(b"path=/a\nlevel=info forged\x1b[2J\x7f\xc2\x9b\n")
            .unwrap();
        let text = String::from_utf8(writer.out).unwrap();
        assert_eq!(
            text,
            "path=/a\\u{a}level=info forged\\u{1b}[2J\\u{7f}\\u{9b}\n"
        );
    }

    #[test]
    fn row_15_a_json_line_stays_json() {
        let mut writer = Escaped {
            out: Vec::new(),
            format: Format::Json,
        };
        writer
            .write_all("{\"path\":\"\u{9b}\"}\n".as_bytes())
            .unwrap();
        assert_eq!(
            String::from_utf8(writer.out).unwrap(),
            "{\"path\":\"\\u009b\"}\n"
        );
    }
}
