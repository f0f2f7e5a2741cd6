//! A preview as it is printed: what changes, by source and target, with what does it.

use jiff::Timestamp;
use serde::Serialize;
use weft_identity::{SpiffeId, TrustDomain};
use weft_policy::{Change, Changed, Flow, FlowHost, Preview, Ruling};

use crate::moments::shown;
use crate::output::{Output, Paint, Table, printable};
use crate::traffic::Traffic;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Whether live traffic would be cut, or might.
    pub(crate) may_cut: bool,
    newly_denied: Class,
    unknown: Class,
    newly_allowed: Class,
    unchanged: Unchanged,
    record: Record,
}

/// Flows with the same fate.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    flows: usize,
    /// Connections and requests in them.
    count: u64,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    source: String,
    target: String,
    /// `GET /orders/{number}`; `-` for a connection of bytes.
    request: String,
    count: u64,
    last_seen: Timestamp,
    before: String,
    after: String,
    because: Vec<String>,
    /// For what is unknown: whether it may be refused where it was let through.
    may_cut: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unchanged {
    flows: usize,
    allowed: usize,
    denied: usize,
    undecided: usize,
}

/// How much of the traffic the record holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    flows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<Timestamp>,
    dropped: u64,
    folded: u64,
}

impl Report {
    pub(crate) fn new(
        preview: &Preview<'_>,
        trust_domain: &TrustDomain,
        traffic: &Traffic,
    ) -> Self {
        let class = |wanted: &[Change]| {
            let mut class = Class::default();
            for changed in &preview.changed {
                if wanted.contains(&changed.change) {
                    class.add(Line::of(changed, trust_domain), changed.flow.count);
                }
            }
            class
        };
        let unchanged = &preview.unchanged;
        Self {
            may_cut: preview.changed.iter().any(|it| it.change.may_cut()),
            newly_denied: class(&[Change::Denied]),
            unknown: class(&[Change::MayBeDenied, Change::MayBeAllowed]),
            newly_allowed: class(&[Change::Allowed]),
            unchanged: Unchanged {
                flows: unchanged.total(),
                allowed: unchanged.allowed,
                denied: unchanged.denied,
                undecided: unchanged.undecided,
            },
            record: Record {
                flows: traffic.flows.len(),
                since: traffic.since,
                oldest: traffic.flows.iter().map(|flow| flow.first_seen).min(),
                dropped: traffic.dropped,
                folded: traffic.folded,
            },
        }
    }

    /// At most `limit` lines of each kind.
    pub(crate) fn text(&self, limit: usize, out: Output) -> String {
        let mut text = String::new();
        for (class, title, paint) in [
            (&self.newly_denied, "NEWLY DENIED", Paint::Bad),
            (&self.unknown, "UNKNOWN", Paint::Warning),
            (&self.newly_allowed, "NEWLY ALLOWED", Paint::Good),
        ] {
            if class.flows > 0 {
                let title = out.paint(paint, title);
                text.push_str(&format!(
                    "{title}: {}, {}\n",
                    counted(class.flows, "flow"),
                    counted(class.count, "request or connection")
                ));
                text.push_str(&class.text(limit));
            }
        }
        let unchanged = &self.unchanged;
        let undecided = match unchanged.undecided {
            0 => String::new(),
            number => format!(", {number} undecided but untouched"),
        };
        text.push_str(&format!(
            "unchanged: {} ({} allowed, {} denied{undecided})\n",
            counted(unchanged.flows, "flow"),
            unchanged.allowed,
            unchanged.denied
        ));
        for remark in self.record.remarks() {
            text.push_str(&format!("record: {remark}\n"));
        }
        text
    }

    /// In a few words, for a question.
    pub(crate) fn cut(&self) -> String {
        let denied = &self.newly_denied;
        let unknown = self.unknown.lines.iter().filter(|line| line.may_cut);
        match (denied.flows, unknown.count()) {
            (denied, 0) => format!("this cuts {}", counted(denied, "live flow")),
            (0, unknown) => format!("this may cut {}", counted(unknown, "live flow")),
            (denied, unknown) => format!(
                "this cuts {} and may cut {unknown} more",
                counted(denied, "live flow")
            ),
        }
    }
}

impl Class {
    fn add(&mut self, line: Line, count: u64) {
        self.flows += 1;
        self.count = self.count.saturating_add(count);
        // flows that differ in what is not shown, such as headers, are one line
        match self
            .lines
            .iter_mut()
            .rev()
            .find(|other| other.is_like(&line))
        {
            Some(same) => {
                same.count = same.count.saturating_add(count);
                same.last_seen = same.last_seen.max(line.last_seen);
            }
            None => self.lines.push(line),
        }
    }

    fn text(&self, limit: usize) -> String {
        let mut text = String::new();
        let mut shown_lines = self.lines.iter().take(limit).peekable();
        while let Some(first) = shown_lines.peek() {
            let (source, target) = (first.source.clone(), first.target.clone());
            text.push_str(&format!(
                "  {} → {}\n",
                printable(&source),
                printable(&target)
            ));
            let mut table = Table::new(["", "", "", ""]);
            while let Some(line) =
                shown_lines.next_if(|line| line.source == source && line.target == target)
            {
                table.row(line.cells());
            }
            // without the heading, which is empty
            for line in table.render().lines().skip(1) {
                text.push_str(&format!("    {line}\n"));
            }
        }
        let more = self.lines.len().saturating_sub(limit);
        if more > 0 {
            text.push_str(&format!("  and {more} more; -o json has them all\n"));
        }
        text
    }
}

impl Line {
    fn of(changed: &Changed<'_>, trust_domain: &TrustDomain) -> Self {
        let Flow { key, count, .. } = changed.flow;
        Self {
            source: source_text(&key.source, trust_domain),
            target: key.target.to_string(),
            request: request_text(changed.flow),
            count: *count,
            last_seen: changed.flow.last_seen,
            before: ruling_text(&changed.before),
            after: ruling_text(&changed.after),
            because: changed.causes.iter().map(ToString::to_string).collect(),
            may_cut: changed.change.may_cut(),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let Self {
            source,
            target,
            request,
            before,
            after,
            because,
            may_cut,
            count: _,
            last_seen: _,
        } = self;
        (source, target, request, may_cut)
            == (&other.source, &other.target, &other.request, &other.may_cut)
            && (before, after, because) == (&other.before, &other.after, &other.because)
    }

    fn cells(&self) -> [String; 4] {
        let mut because = self
            .because
            .iter()
            .take(CAUSES_SHOWN)
            .cloned()
            .collect::<Vec<_>>();
        if self.because.len() > CAUSES_SHOWN {
            because.push(format!("{} more", self.because.len() - CAUSES_SHOWN));
        }
        let mut because = because.join(", ");
        for unknown in [&self.before, &self.after] {
            if let Some(why) = unknown.strip_prefix(UNKNOWN) {
                let now = if std::ptr::eq(unknown, &self.before) {
                    " now"
                } else {
                    ""
                };
                because.push_str(&format!("; unknown{now}{why}"));
            }
        }
        [
            self.request.clone(),
            self.count.to_string(),
            shown(Some(self.last_seen)),
            because,
        ]
    }
}

impl Record {
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.flows == 0 {
            remarks.push(
                "no traffic is recorded in this window, so nothing can be said about it".to_owned(),
            );
        }
        if let (Some(since), Some(oldest)) = (self.since, self.oldest)
            && oldest.duration_since(since) > YOUNG
        {
            remarks.push(format!("it reaches back to {} only", shown(Some(oldest))));
        }
        if self.dropped > 0 {
            remarks.push(format!(
                "it is incomplete: {} are in no flow",
                counted(self.dropped, "request or connection")
            ));
        }
        if self.folded > 0 {
            remarks.push(match self.folded {
                1 => "1 request is told less exactly than it came".to_owned(),
                many => format!("{many} requests are told less exactly than they came"),
            });
        }
        remarks
    }
}

fn source_text(source: &SpiffeId, trust_domain: &TrustDomain) -> String {
    match source.workload() {
        Some(workload) if source.is_in(trust_domain) => workload.to_string(),
        _ => source.to_string(),
    }
}

fn request_text(flow: &Flow) -> String {
    let Some(request) = &flow.key.request else {
        return "-".to_owned();
    };
    let mut text = request.method.to_string();
    let host = match &request.host {
        FlowHost::Named(host) => Some(&**host),
        FlowHost::None | FlowHost::Folded => None,
    };
    let path = request.path.as_ref().map_or("", |path| path.as_str());
    // the service's own name says nothing new
    let is_own = |host: &str| {
        host == flow.key.target.service.name.as_str()
            || host.starts_with(&format!(
                "{}.{}",
                flow.key.target.service.name, flow.key.target.service.namespace
            ))
    };
    text.push(' ');
    if let Some(host) = host.filter(|host| !is_own(host)) {
        text.push_str(host);
    }
    text.push_str(path);
    if let Some(upgrade) = &request.upgrade {
        text.push_str(&format!(" (upgrade to {upgrade})"));
    }
    text.trim_end().to_owned()
}

fn ruling_text(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Allowed(rule) => format!("allowed by {rule}"),
        Ruling::Learned => "allowed by learn mode".to_owned(),
        Ruling::Denied(reason) => format!("denied: {reason}"),
        Ruling::Unknown(why) => format!("{UNKNOWN}: {why}"),
    }
}

fn counted(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    match (number, what) {
        (1, _) => format!("1 {what}"),
        (_, "request or connection") => format!("{number} requests or connections"),
        _ => format!("{number} {what}s"),
    }
}

const UNKNOWN: &str = "unknown";
const CAUSES_SHOWN: usize = 3;
/// A record that begins this much later than the window is younger than it.
const YOUNG: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
