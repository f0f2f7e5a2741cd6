//! The graph as a picture of its own.

use std::fmt::Write as _;

use super::layout::{Layout, Place};
use super::{Edge, Graph, Verdict};

pub(super) fn draw(graph: &Graph) -> String {
    let layout = Layout::of(graph);
    let sheet = Sheet::of(graph, &layout);
    let (width, height) = (sheet.width, sheet.height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<defs>\n"
    );
    for verdict in [Verdict::Allowed, Verdict::Learned, Verdict::Denied] {
        let (name, colour) = (verdict.as_str(), verdict.colour());
        let _ = writeln!(
            text,
            "<marker id=\"{name}\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"{colour}\"/></marker>"
        );
    }
    text.push_str("</defs>\n");
    for (edge, way) in graph.edges.iter().zip(&layout.ways) {
        text.push_str(&sheet.edge(graph, edge, way));
    }
    for (layer, places) in layout.layers.iter().enumerate() {
        for (at, place) in places.iter().enumerate() {
            if let Place::Node(node) = place {
                text.push_str(&sheet.node(graph.name(*node), (layer, at)));
            }
        }
    }
    // Above everything, so that no line crosses them out.
    for (edge, way) in graph.edges.iter().zip(&layout.ways) {
        text.push_str(&sheet.label(edge, way));
    }
    text.push_str(&legend(height));
    text.push_str("</svg>\n");
    text
}

/// Which way an edge goes.
#[derive(Clone, Copy)]
enum Course {
    Right,
    /// It closes a circle.
    Left,
    /// Within one layer.
    Beside,
    /// To where it began.
    Itself,
}

impl Course {
    fn of(way: &[(usize, usize)]) -> Self {
        match (way.first(), way.last()) {
            (Some(first), Some(last)) if first == last => Self::Itself,
            (Some((from, _)), Some((to, _))) if from < to => Self::Right,
            (Some((from, _)), Some((to, _))) if from > to => Self::Left,
            (_, _) => Self::Beside,
        }
    }
}

/// Where everything is, in pixels.
struct Sheet {
    /// Of each layer: its left edge, and how wide its boxes are.
    columns: Vec<(i64, i64)>,
    /// Of each layer: the middle of its first place.
    tops: Vec<i64>,
    width: i64,
    height: i64,
}

impl Sheet {
    fn of(graph: &Graph, layout: &Layout) -> Self {
        let gap = graph
            .edges
            .iter()
            .map(|edge| text_width(&edge.label()))
            .max()
            .unwrap_or_default();
        let mut columns = Vec::new();
        let mut x = MARGIN;
        for places in &layout.layers {
            let names = places.iter().map(|place| match place {
                Place::Node(node) => text_width(graph.name(*node)) + 2 * PADDING,
                Place::Pass(_) => 0,
            });
            let width = names.max().unwrap_or_default();
            columns.push((x, width));
            x += width + gap.max(MARGIN) + 2 * PADDING;
        }
        let tallest = layout.layers.iter().map(Vec::len).max().unwrap_or_default();
        let row = |count: usize| {
            i64::try_from(count)
                .unwrap_or(i64::MAX / ROW)
                .saturating_mul(ROW)
        };
        let tops = layout
            .layers
            .iter()
            .map(|places| MARGIN + (row(tallest) - row(places.len())) / 2 + ROW / 2)
            .collect();
        let end = columns.last().map_or(MARGIN, |(x, width)| x + width);
        Self {
            columns,
            tops,
            width: (end + MARGIN).max(LEGEND_WIDTH),
            height: row(tallest) + 2 * MARGIN + LEGEND,
        }
    }

    /// The middle of a place, and half the width of its layer.
    fn middle(&self, (layer, at): (usize, usize)) -> (i64, i64, i64) {
        let (x, width) = self.columns.get(layer).copied().unwrap_or_default();
        let top = self.tops.get(layer).copied().unwrap_or_default();
        let at = i64::try_from(at).unwrap_or_default();
        (x + width / 2, top + at * ROW, width / 2)
    }

    fn node(&self, name: &str, place: (usize, usize)) -> String {
        let (x, y, _) = self.middle(place);
        let width = text_width(name) + 2 * PADDING;
        format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{BOX}\" rx=\"6\" fill=\"#f4f6f8\" stroke=\"#5b6770\"/><text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#1d2429\">{}</text>\n",
            x - width / 2,
            y - BOX / 2,
            y + 4,
            escaped(name),
        )
    }

    fn edge(&self, graph: &Graph, edge: &Edge, way: &[(usize, usize)]) -> String {
        let line = match Course::of(way) {
            Course::Itself => self.circle(way),
            course => self.line(graph, edge, way, course),
        };
        let dash = match edge.verdict {
            Verdict::Allowed | Verdict::Learned => "",
            Verdict::Denied => " stroke-dasharray=\"5 4\"",
        };
        let (verdict, colour) = (edge.verdict.as_str(), edge.verdict.colour());
        let title = format!(
            "{} to {}: {verdict} {}",
            graph.name(edge.from),
            graph.name(edge.to),
            edge.count()
        );
        format!(
            "<path d=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash} marker-end=\"url(#{verdict})\"><title>{}</title></path>\n",
            escaped(&title)
        )
    }

    /// From one box to the other, by the places between. Different verdicts go side by side.
    fn line(&self, graph: &Graph, edge: &Edge, way: &[(usize, usize)], course: Course) -> String {
        let half = |node: usize| text_width(graph.name(node)) / 2 + PADDING;
        let (start, end) = match course {
            Course::Right => (half(edge.from), -half(edge.to)),
            Course::Left => (-half(edge.from), half(edge.to)),
            Course::Itself | Course::Beside => (half(edge.from), half(edge.to)),
        };
        let last = way.len().saturating_sub(1);
        let mut line = String::new();
        let mut before: Option<(i64, i64)> = None;
        for (number, place) in way.iter().enumerate() {
            let (x, y, _) = self.middle(*place);
            let y = y + shift(edge);
            let x = match number {
                0 => x + start,
                number if number == last => x + end,
                _ => x,
            };
            let _ = match (before, course) {
                (None, _) => write!(line, "M{x} {y}"),
                (Some((from, of)), Course::Itself | Course::Beside) => {
                    write!(line, "C{} {of} {} {y} {x} {y}", from + MARGIN, x + MARGIN)
                }
                (Some((from, of)), Course::Right | Course::Left) => {
                    let bend = (x - from) / 2;
                    write!(line, "C{} {of} {} {y} {x} {y}", from + bend, x - bend)
                }
            };
            before = Some((x, y));
        }
        line
    }

    /// Over the box and back.
    fn circle(&self, way: &[(usize, usize)]) -> String {
        let (x, y, _) = self.middle(way.first().copied().unwrap_or_default());
        let (y, top) = (y - BOX / 2, y - BOX / 2 - MARGIN);
        format!(
            "M{} {y}C{} {top} {} {top} {} {y}",
            x - PADDING,
            x - MARGIN,
            x + MARGIN,
            x + PADDING
        )
    }

    fn label(&self, edge: &Edge, way: &[(usize, usize)]) -> String {
        let (Some(first), Some(second)) = (way.first(), way.get(1)) else {
            return String::new();
        };
        let ((ax, ay, a_half), (bx, by, b_half)) = (self.middle(*first), self.middle(*second));
        let (left, right) = match Course::of(way) {
            Course::Right => (ax + a_half, bx - b_half),
            Course::Left => (bx + b_half, ax - a_half),
            Course::Beside => (ax + a_half, ax + a_half + MARGIN),
            Course::Itself => (ax - a_half, ax + a_half),
        };
        let y = match Course::of(way) {
            Course::Itself => ay - BOX / 2 - MARGIN / 2,
            Course::Right | Course::Left | Course::Beside => (ay + by) / 2 + shift(edge) - 3,
        };
        format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\" font-size=\"11\">{}</text>\n",
            (left + right) / 2,
            y,
            edge.verdict.colour(),
            escaped(&edge.label()),
        )
    }
}

fn legend(height: i64) -> String {
    let mut text = String::new();
    let mut x = MARGIN;
    for verdict in [Verdict::Allowed, Verdict::Learned, Verdict::Denied] {
        let name = verdict.as_str();
        let _ = writeln!(
            text,
            "<text x=\"{x}\" y=\"{}\" fill=\"{}\" font-size=\"11\">{name}</text>",
            height - MARGIN / 2,
            verdict.colour()
        );
        x += text_width(name) + 2 * PADDING;
    }
    text
}

fn shift(edge: &Edge) -> i64 {
    match edge.verdict {
        Verdict::Allowed => -BESIDE,
        Verdict::Learned => 0,
        Verdict::Denied => BESIDE,
    }
}

/// Wide enough for the fonts that readers have.
fn text_width(text: &str) -> i64 {
    i64::try_from(text.chars().count())
        .unwrap_or(0)
        .saturating_mul(7)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other if other.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

const MARGIN: i64 = 24;
const PADDING: i64 = 12;
const ROW: i64 = 56;
const BOX: i64 = 30;
const BESIDE: i64 = 8;
const LEGEND: i64 = 20;
const LEGEND_WIDTH: i64 = 240;
