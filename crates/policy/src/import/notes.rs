//! What has no equal, said in words: each note has a kind that scripts and tests can name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use weft_identity::ServiceName;

use super::{Context, Import};

/// One remark about a place of the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    pub kind: NoteKind,
    /// Where in the policy, such as `spec.rules[0].from[1]`; empty: as a whole.
    pub path: String,
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Declares the kinds with the words that documents and tests know them by.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)+) => {
        /// Why the rules say less than the source.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum NoteKind {
            $($(#[$doc])* $kind,)+
        }

        impl NoteKind {
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }
    };
}

kinds! {
    /// The source lets everything through where no policy applies.
    DefaultAllow = "default-allow",
    /// Clients without an identity of a mesh.
    NoIdentity = "no-identity",
    /// Identities of other trust domains that a wildcard of the source admits.
    ForeignDomain = "foreign-domain",
    IpAddress = "ip-address",
    /// Tokens that requests carry.
    RequestIdentity = "request-identity",
    NotTcp = "not-tcp",
    /// The caller's own egress policies do not let it out, or nobody knows whether they do.
    Egress = "egress",
    /// Other pods of the same identity are not allowed.
    SharedIdentity = "shared-identity",
    /// A selector that no given workload answers to.
    NoWorkload = "no-workload",
    NoService = "no-service",
    NoPort = "no-port",
    /// A pattern became the list of what was given.
    Expanded = "expanded",
    /// The policy covers some of a service's workloads, not all.
    SomeWorkloads = "some-workloads",
    Gateway = "gateway",
    CustomAction = "custom-action",
    AuditAction = "audit-action",
    DryRun = "dry-run",
    /// A refusal could not be taken off exactly.
    Deny = "deny",
    Method = "method",
    Path = "path",
    Host = "host",
    Header = "header",
    Query = "query",
    /// Attributes of a connection that rules do not ask.
    Attribute = "attribute",
    /// HTTP conditions on a port of bytes.
    Bytes = "bytes",
    /// WebSocket and other upgrades under HTTP conditions.
    Upgrade = "upgrade",
    /// Paths that are not in canonical form.
    CanonicalPath = "canonical-path",
    TooComplex = "too-complex",
    ServerConflict = "server-conflict",
    MissingReference = "missing-reference",
    /// Another route of the same server may take the request.
    Route = "route",
    Filter = "filter",
    Name = "name",
}

impl fmt::Display for NoteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Collects the notes of one policy, each once.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeSet<Note>);

impl Notes {
    pub(super) fn add(&mut self, kind: NoteKind, path: impl Into<String>, text: impl Into<String>) {
        self.0.insert(Note {
            kind,
            path: path.into(),
            text: text.into().chars().flat_map(shown).collect(),
        });
    }

    pub(super) fn into_vec(self) -> Vec<Note> {
        self.0.into_iter().collect()
    }
}

/// Notes stand in comments: nothing of a source may end one.
pub(super) fn shown(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control() || matches!(character, '\u{85}' | '\u{2028}' | '\u{2029}');
    let plain = (!escaped).then_some(character);
    let escape = escaped
        .then(|| character.escape_default())
        .into_iter()
        .flatten();
    plain.into_iter().chain(escape)
}

/// What holds for the input as a whole is said once.
pub(super) fn about_the_whole(
    context: &Context<'_>,
    covered: &BTreeSet<ServiceName>,
    import: &mut Import,
) {
    let mut notes = Notes::default();
    let open: Vec<String> = context
        .cluster
        .targets
        .iter()
        .filter(|target| {
            !covered.contains(&target.service) && !context.networks.cover(target, context.cluster)
        })
        .map(|target| target.service.to_string())
        .collect();
    if !open.is_empty() {
        notes.add(
            NoteKind::DefaultAllow,
            "",
            format!(
                "no policy covers {}: the source lets every caller in there, here none comes in until a rule allows it",
                open.join(", ")
            ),
        );
    }
    let mut left_out = BTreeMap::<&str, Vec<&str>>::new();
    for (what, why) in &context.cluster.left_out {
        left_out.entry(why).or_default().push(what);
    }
    for (why, what) in left_out {
        notes.add(
            NoteKind::NoService,
            "",
            format!("left out: {}: {why}", what.join("; ")),
        );
    }
    let conditions: Vec<_> = import.rules().flat_map(|rule| rule.http.listed()).collect();
    if !conditions.is_empty() {
        notes.add(
            NoteKind::Upgrade,
            "",
            "under HTTP conditions no upgrade passes, such as to WebSocket, and no CONNECT; add `upgrades: [websocket]` to a condition where clients need it",
        );
    }
    if conditions.iter().any(|condition| !condition.paths.is_any()) {
        notes.add(
            NoteKind::CanonicalPath,
            "",
            "where a rule names paths, requests whose path is not in canonical form get 400; the source normalises some of them",
        );
    }
    import.notes.extend(notes.into_vec());
}
