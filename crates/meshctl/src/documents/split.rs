//! Text of a file → its documents, each with the line where it begins.
//!
//! YAML 1.2 §9.1: `---` and `...` are markers only at the first column and before white space or the line's end; inside
//! a block scalar they are indented, and a quoted scalar may not hold them. A line that looks like a marker is one.

/// One document of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Counted from 1.
    pub(crate) first_line: usize,
    pub(crate) text: String,
}

/// Splits what a file holds. Documents without content are left out.
pub(crate) fn split(text: &str) -> Result<Vec<Piece>, SplitError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) && !text.lines().any(is_start) {
        return split_json(text);
    }
    Ok(split_yaml(text))
}

fn split_yaml(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut current = Piece {
        first_line: 1,
        text: String::new(),
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        if is_start(line) {
            // What follows the marker on its line belongs to the document, at the column where it stands.
            let rest = line.replacen("---", "   ", 1);
            close(
                &mut pieces,
                std::mem::replace(
                    &mut current,
                    Piece {
                        first_line: number,
                        text: rest,
                    },
                ),
            );
        } else if is_end(line) {
            close(
                &mut pieces,
                std::mem::replace(
                    &mut current,
                    Piece {
                        first_line: number + 1,
                        text: String::new(),
                    },
                ),
            );
        } else if line.starts_with('%') && is_blank(&current.text) {
            current.text.push('\n');
        } else {
            current.text.push_str(line);
        }
    }
    close(&mut pieces, current);
    pieces
}

fn close(pieces: &mut Vec<Piece>, piece: Piece) {
    if !is_blank(&piece.text) {
        pieces.push(piece);
    }
}

fn is_start(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_end(line: &str) -> bool {
    line.strip_prefix("...")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#'))
}

/// JSON objects one after another.
fn split_json(text: &str) -> Result<Vec<Piece>, SplitError> {
    let mut pieces = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text)
        .into_iter::<serde_json::Map<String, serde_json::Value>>();
    loop {
        let start = values.byte_offset();
        match values.next() {
            None => return Ok(pieces),
            Some(Err(error)) => {
                return Err(SplitError {
                    line: error.line(),
                    column: error.column(),
                    problem: json_problem(&error),
                });
            }
            Some(Ok(_)) => {
                let before = text.get(..start).unwrap_or_default();
                let value = text.get(start..values.byte_offset()).unwrap_or_default();
                let blank_lines = value.len() - value.trim_start().len();
                let skipped = value.get(..blank_lines).unwrap_or_default();
                let first_line = 1 + before.matches('\n').count() + skipped.matches('\n').count();
                // The YAML reader takes no tabs as indentation; in JSON a raw tab is always white space.
                pieces.push(Piece {
                    first_line,
                    text: value.trim_start().replace('\t', " "),
                });
            }
        }
    }
}

/// serde_json appends the place, which our callers say in their own way.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.clone(), |(problem, _)| problem.to_owned())
}

/// A file that cannot be split into documents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SplitError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        split(text)
            .unwrap()
            .into_iter()
            .map(|piece| (piece.first_line, piece.text))
            .collect()
    }

    #[test]
    fn documents_keep_the_line_where_they_begin() {
        let pieces = lines("a: 1\n---\nb: 2\n--- # third\nc: 3\n");
        assert_eq!(
            pieces,
            [
                (1, "a: 1\n".to_owned()),
                (2, "   \nb: 2\n".to_owned()),
                (4, "    # third\nc: 3\n".to_owned())
            ]
        );
    }

    #[test]
    fn an_indented_marker_in_a_block_scalar_splits_nothing() {
        let text = "reason: |\n  first\n  ---\n  ...\n  last\nother: \"a --- b\"\n";
        assert_eq!(lines(text), [(1, text.to_owned())]);
    }

    #[test]
    fn a_longer_dash_line_is_no_marker() {
        assert_eq!(lines("----\n").len(), 1);
        assert_eq!(lines("a: 1\n---b: 2\n").len(), 1);
    }

    #[test]
    fn empty_documents_and_comments_are_left_out() {
        assert_eq!(
            lines("# head\n---\n---\n# only a comment\n---\na: 1\n---\n"),
            [(5, "   \na: 1\n".to_owned())]
        );
        assert_eq!(lines(""), []);
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_are_understood() {
        let pieces = lines("\u{feff}a: 1\r\n---\r\nb: 2\r\n");
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].1, "a: 1\r\n");
        assert_eq!(pieces[1].0, 2);
    }

    #[test]
    fn directives_and_end_markers_are_understood() {
        let pieces = lines("%YAML 1.2\n---\na: 1\n...\n---\nb: 2\n");
        assert_eq!(
            pieces,
            [(2, "   \na: 1\n".to_owned()), (5, "   \nb: 2\n".to_owned())]
        );
    }

    #[test]
    fn json_objects_follow_one_another() {
        let pieces = lines("{\"a\": 1}\n\n{\n\t\"b\": 2\n}\n");
        assert_eq!(
            pieces,
            [
                (1, "{\"a\": 1}".to_owned()),
                (3, "{\n \"b\": 2\n}".to_owned())
            ]
        );
    }

    #[test]
    fn broken_json_names_its_place() {
        let error = split("{\"a\": 1}\n{\"b\" 2}\n").unwrap_err();
        assert_eq!((error.line, error.problem.as_str()), (2, "expected `:`"));
        assert!(split("[1]").is_err());
    }

    #[test]
    fn a_yaml_flow_mapping_followed_by_markers_is_yaml() {
        assert_eq!(lines("{a: 1}\n---\n{b: 2}\n").len(), 2);
    }
}
