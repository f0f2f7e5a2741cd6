//! Where a message's content ends, byte for byte, while it passes.
//!
//! Chunks pass as they came once their framing has exactly one reading (RFC 9112 §7.1); trailers that must not pass are taken out.

use super::fields::is_refused_trailer;
use crate::http::strict::{self, BodyLength, MAX_CHUNK_LINE, MAX_TRAILERS, Malformed};

/// What is still to come of one message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Done,
    Fixed(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers { searched: usize },
    UntilClose,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of content.
    Data(usize),
    /// So many bytes that frame it.
    Framing(usize),
    /// A whole trailer section of so many bytes, with its empty line; the message ends with it.
    Trailers(usize),
    /// More bytes are needed to say anything.
    More,
}

impl From<BodyLength> for Content {
    fn from(length: BodyLength) -> Self {
        match length {
            BodyLength::Fixed(0) => Self::Done,
            BodyLength::Fixed(length) => Self::Fixed(length),
            BodyLength::Chunked => Self::ChunkSize,
        }
    }
}

impl Content {
    pub fn is_done(self) -> bool {
        self == Self::Done
    }

    pub fn is_chunked(self) -> bool {
        match self {
            Self::ChunkSize | Self::ChunkData(_) | Self::ChunkEnd | Self::Trailers { .. } => true,
            Self::Done | Self::Fixed(_) | Self::UntilClose => false,
        }
    }

    /// Looks at the bytes that wait, which begin where the last piece ended.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        if input.is_empty() {
            return Ok(Piece::More);
        }
        match *self {
            Self::Done => Ok(Piece::More),
            Self::UntilClose => Ok(Piece::Data(input.len())),
            Self::Fixed(left) => {
                let count = shorter(input, left);
                let left = left - wide(count);
                *self = match left {
                    0 => Self::Done,
                    left => Self::Fixed(left),
                };
                Ok(Piece::Data(count))
            }
            Self::ChunkSize => self.chunk_size(input),
            Self::ChunkData(left) => {
                let count = shorter(input, left);
                let left = left - wide(count);
                *self = match left {
                    0 => Self::ChunkEnd,
                    left => Self::ChunkData(left),
                };
                Ok(Piece::Data(count))
            }
            Self::ChunkEnd => match input {
                [b'\r', b'\n', ..] => {
                    *self = Self::ChunkSize;
                    Ok(Piece::Framing(2))
                }
                [b'\r'] => Ok(Piece::More),
                _ => Err(Malformed::ChunkEnd),
            },
            Self::Trailers { searched } => self.trailers(input, searched),
        }
    }

    fn chunk_size(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > MAX_CHUNK_LINE {
                Err(Malformed::ChunkSize)
            } else {
                Ok(Piece::More)
            };
        };
        let line = input.get(..end).and_then(|line| line.strip_suffix(b"\r"));
        let line = line
            .filter(|line| line.len() <= MAX_CHUNK_LINE)
            .ok_or(Malformed::ChunkSize)?;
        *self = match strict::read_chunk_size(line)? {
            0 => Self::Trailers { searched: 0 },
            left => Self::ChunkData(left),
        };
        Ok(Piece::Framing(end + 1))
    }

    fn trailers(&mut self, input: &[u8], mut searched: usize) -> Result<Piece, Malformed> {
        let end = strict::section_end(input, &mut searched)?;
        let Some(end) = end.filter(|end| *end <= MAX_TRAILERS) else {
            *self = Self::Trailers { searched };
            return if input.len() > MAX_TRAILERS {
                Err(Malformed::Trailers)
            } else {
                Ok(Piece::More)
            };
        };
        for line in trailer_lines(input.get(..end).unwrap_or_default()) {
            strict::read_header(line.strip_suffix(b"\r\n").unwrap_or(line))?;
        }
        *self = Self::Done;
        Ok(Piece::Trailers(end))
    }
}

/// The section without what must not pass; none if all of it may.
pub fn clean_trailers(section: &[u8]) -> Option<Vec<u8>> {
    let may_pass = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        !is_refused_trailer(name)
    };
    if trailer_lines(section).all(|line| may_pass(&line)) {
        return None;
    }
    let mut clean = trailer_lines(section)
        .filter(may_pass)
        .fold(Vec::new(), |mut clean, line| {
            clean.extend_from_slice(line);
            clean
        });
    clean.extend_from_slice(b"\r\n");
    Some(clean)
}

/// Each with its end, without the empty line.
fn trailer_lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = section.strip_suffix(b"\r\n").unwrap_or(section);
    lines.split_inclusive(|byte| *byte == b'\n')
}

fn shorter(input: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(input.len(), |left| left.min(input.len()))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a whole body in pieces of a size; gives its data, and what follows it.
    fn read(
        mut content: Content,
        input: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize), Malformed> {
        let (mut data, mut at, mut have) = (Vec::new(), 0, 0);
        while !content.is_done() {
            match content.next(&input[at..have])? {
                Piece::Data(count) => {
                    data.extend_from_slice(&input[at..at + count]);
                    at += count;
                }
                Piece::Framing(count) | Piece::Trailers(count) => at += count,
                Piece::More if have == input.len() => break,
                Piece::More => have = (have + step).min(input.len()),
            }
        }
        Ok((data, at))
    }

    #[test]
    fn content_ends_where_its_framing_says_in_pieces_of_any_size() {
        let chunked = b"4;a=\"b\"\r\nwiki\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nGET ";
        for step in [1, 2, 3, 5, chunked.len()] {
            let (data, at) = read(Content::ChunkSize, chunked, step).unwrap();
            assert_eq!(data, b"wiki0123456789");
            assert_eq!(&chunked[at..], b"GET ");
            assert_eq!(
                read(Content::Fixed(3), b"abcd", step),
                Ok((b"abc".to_vec(), 3))
            );
        }
    }

    #[test]
    fn row_05_chunks_with_two_readings_are_refused() {
        for (input, why) in [
            (&b"4\nwiki\r\n0\r\n\r\n"[..], Malformed::ChunkSize),
            (b"4 \r\nwiki\r\n", Malformed::ChunkSize),
            (b"0x4\r\nwiki\r\n", Malformed::ChunkSize),
            (b"-4\r\nwiki\r\n", Malformed::ChunkSize),
            (b"00000000000000004\r\n", Malformed::ChunkSize),
            (b"4;\rx\r\nwiki\r\n", Malformed::ChunkSize),
            (b"4\r\nwikixx", Malformed::ChunkEnd),
            (b"4\r\nwiki\n0\r\n\r\n", Malformed::ChunkEnd),
            (b"0\r\n x: folded\r\n\r\n", Malformed::FoldedHeader),
            (b"0\r\nx: 1\n\r\n", Malformed::BareLineFeed),
        ] {
            for step in [1, 4, input.len()] {
                let read = read(Content::ChunkSize, input, step);
                assert_eq!(read, Err(why), "{}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn row_04_trailers_that_name_a_client_or_frame_the_message_are_taken_out() {
        assert_eq!(clean_trailers(b"x-sum: 1\r\n\r\n"), None);
        assert_eq!(clean_trailers(b"\r\n"), None);
        let section = b"x-sum: 1\r\nX_Forwarded-client_cert: URI=evil\r\nHost: b\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(clean_trailers(section), Some(b"x-sum: 1\r\n\r\n".to_vec()));
    }
}
