//! Policy: the allow-list as documents, as a model, as a compiled set, and as verdicts. One evaluator for the whole product.
//!
//! Pure: no socket, no file, no clock. `docs/POLICY.md` states the semantics in numbered sentences; tests quote the numbers.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod address;
mod canonical;
mod coverage;
mod documents;
mod explain;
mod flow;
mod fold;
mod grpc;
mod header;
mod hints;
mod http;
pub mod import;
mod learn;
mod lint;
mod lists;
mod outside;
mod path;
mod pattern;
mod preview;
mod propose;
mod recorded;
mod request;
mod rule;
mod set;
mod source;
mod sources;
mod suggest;
mod table;
mod terms;
mod world;

pub use address::AddressRange;
pub use canonical::{EncodedSlashes, is_canonical};
pub use coverage::{Breadth, Life, RuleUse, coverage};
pub use documents::{ALLOW, AllowSpec, Destination, QUARANTINE, QuarantineSpec};
pub use explain::{Explanation, NEAREST_LIMIT, Near, Question, explain};
pub use flow::{
    Flow, FlowError, FlowHost, FlowKey, FlowRequest, HEADER_LIMIT, HeaderSeen, Judged, is_host,
    is_method, is_upgrade,
};
pub use fold::{FoldedPath, FoldedSegment, Kind};
pub use grpc::GrpcMethod;
pub use header::{HeaderCondition, HeaderName, HeaderTest};
pub use http::{HostPattern, HttpCondition, Method, Upgrade, host_of};
pub use lint::{Warning, WarningKind, lint};
pub use lists::{Match, NonEmpty};
pub use outside::{Carries, HostPort, Leads, MeshName, Outside, OutsidePort, Target, TargetError};
pub use path::PathPattern;
pub use pattern::PatternError;
pub use preview::{Cause, Change, Changed, Preview, Ruling, Side, Unchanged, Why, preview};
pub use propose::{
    Basis, Crowded, Evidence, Example, LeftOut, Lesson, NotProposed, Proposal, Proposed, propose,
};
pub use recorded::{
    FlowDocument, FlowDocumentError, HeaderDocument, RequestDocument, SeenDocument,
};
pub use request::{
    Condition, Connection, ConnectionVerdict, HeaderLookup, HeaderValue, HttpRequest, NoHeaders,
    Reason, Verdict,
};
pub use rule::{
    ADDRESSES_SCHEMA, LEARN_SCHEMA, Mode, Quarantine, Rule, RuleError, SCHEMA, required_schema,
};
pub use set::PolicySet;
pub use source::{NamePattern, SourcePattern};
pub use sources::{OwnedSource, Source, Sources};
pub use table::{Case, CaseHeader, Expect, Outcome, POLICY_TEST, PolicyTestSpec};
pub use terms::FlowTerms;
pub use world::{ServiceFacts, World};
