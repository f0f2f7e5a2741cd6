//! The table: what is sent, where the idea comes from, and what must come of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::backends::Kind;

/// One attack, or one harmless message that looks like one.
#[derive(Debug)]
pub(super) struct Case {
    /// Stands in every path of the case, so that records can be told apart.
    pub(super) mark: String,
    pub(super) name: String,
    pub(super) rules: Rules,
    pub(super) send: Vec<u8>,
    pub(super) passes: Vec<Wanted>,
    pub(super) begins: Option<Wanted>,
    pub(super) then: Then,
    pub(super) except: Vec<Kind>,
}

/// A request that policy permits and a back end gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) length: u64,
    pub(super) host: String,
}

/// Which rules the service has that the case is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Rules {
    /// Only `/ok/**`, and a few methods.
    #[default]
    Paths,
    /// No HTTP conditions: paths pass as they are.
    Open,
}

/// What comes after the requests that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Then {
    /// The connection stays open: a further request on it is answered.
    #[default]
    GoesOn,
    /// 403, and the connection stays open.
    Denied,
    /// 403 before the content has come: the connection may stay open or end.
    DeniedEarly,
    /// 400 because of the path, and the connection stays open.
    NotCanonical,
    /// 421, and the connection stays open.
    Misdirected,
    /// 403 to a CONNECT, after which the connection ends.
    Connect,
    /// 400, and the connection ends.
    Refused,
    /// The connection ends, with 400 or without an answer.
    Closed,
    /// The connection ends without another answer.
    Ends,
    /// The message never ends: the client gives up. An error or no answer.
    Cut,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    source: String,
    /// The bytes; each character stands for the byte of its number. `{p}`, `{h}`, `{s}` and `{a:COUNT}` are filled in.
    send: String,
    #[serde(default)]
    rules: Rules,
    /// What passes, each `METHOD TARGET CONTENT-LENGTH [HOST]`.
    #[serde(default)]
    passes: Vec<String>,
    /// A request that is permitted, and whose content never ends.
    begins: Option<String>,
    #[serde(default)]
    then: Then,
    /// Back ends that turn down by themselves what passes.
    #[serde(default)]
    except: Vec<Kind>,
}

/// Every case of every file, numbered through.
pub(super) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/smuggling");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    let rows = files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(file).expect("a file");
        let rows: Vec<Row> = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let theme = file.file_stem().unwrap_or_default().to_string_lossy();
        rows.into_iter().map(move |mut row| {
            row.name = format!("{theme}: {}", row.name);
            row
        })
    });
    let cases: Vec<Case> = rows
        .enumerate()
        .map(|(number, row)| row.numbered(number))
        .collect();
    let names: BTreeSet<&String> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    cases
}

impl Row {
    fn numbered(self, number: usize) -> Case {
        assert!(!self.source.is_empty(), "{}: no source", self.name);
        let mark = format!("case-{number:03}");
        let path = format!("/ok/{mark}");
        let wanted = |text: &String| Wanted::read(&text.replace("{p}", &path), &self.name);
        let case = Case {
            rules: self.rules,
            passes: self.passes.iter().map(wanted).collect(),
            begins: self.begins.as_ref().map(wanted),
            then: self.then,
            except: self.except,
            send: bytes(&self.send, &path),
            name: self.name,
            mark,
        };
        assert!(
            case.begins.is_none() || matches!(case.then, Then::Closed | Then::Cut),
            "{}: what begins must not end well",
            case.name
        );
        case
    }
}

impl Case {
    /// The request that is sent after the case's bytes.
    pub(super) fn canary(&self) -> Wanted {
        let target = format!("/ok/{}/canary", self.mark);
        Wanted::read(&format!("GET {target} 0"), &self.name)
    }

    /// Case and canary.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let target = self.canary().target;
        let canary = format!("GET {target} HTTP/1.1\r\n{HOST_LINE}Connection: close\r\n\r\n");
        [self.send.as_slice(), canary.as_bytes()].concat()
    }

    /// What policy permits, all in all, where the connection went `on`; beside it may stand what only begins, if the client's
    /// side did not end it before.
    pub(super) fn permitted(&self, on: bool) -> Vec<Wanted> {
        let canary = on.then(|| self.canary());
        self.passes.iter().cloned().chain(canary).collect()
    }

    /// What this back end must have got whole.
    pub(super) fn delivered(&self, on: bool, to: Kind) -> Vec<Wanted> {
        let mut permitted = self.permitted(on);
        if self.except.contains(&to) {
            permitted.drain(..self.passes.len());
        }
        permitted
    }
}

impl Then {
    pub(super) fn goes_on(self) -> bool {
        match self {
            Self::GoesOn
            | Self::Denied
            | Self::DeniedEarly
            | Self::NotCanonical
            | Self::Misdirected => true,
            Self::Connect | Self::Refused | Self::Closed | Self::Ends | Self::Cut => false,
        }
    }
}

impl Wanted {
    fn read(text: &str, case: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let (method, target, length, host) = match words.as_slice() {
            [method, target, length] => (method, target, length, HOST),
            [method, target, length, host] => (method, target, length, *host),
            _ => panic!("{case}: {text:?} is not METHOD TARGET CONTENT-LENGTH [HOST]"),
        };
        Self {
            method: (*method).to_owned(),
            target: (*target).to_owned(),
            length: length
                .parse()
                .unwrap_or_else(|_| panic!("{case}: {length:?} is no number")),
            host: host.to_owned(),
        }
    }
}

/// One byte for each character, and what stands in braces filled in.
fn bytes(text: &str, path: &str) -> Vec<u8> {
    let smuggled = format!("GET /smuggled HTTP/1.1\r\n{HOST_LINE}\r\n");
    let mut text = text
        .replace("{p}", path)
        .replace("{h}", HOST_LINE)
        .replace("{s}", &smuggled);
    while let Some((before, rest)) = text.split_once("{a:") {
        let (count, after) = rest.split_once('}').expect("{a:COUNT}");
        let many = "a".repeat(count.parse().expect("a number"));
        text = format!("{before}{many}{after}");
    }
    let bytes = text.chars().map(|char| u8::try_from(u32::from(char)));
    bytes
        .collect::<Result<_, _>>()
        .expect("no character above U+00FF")
}

const HOST: &str = "a.test";
const HOST_LINE: &str = "Host: a.test\r\n";
