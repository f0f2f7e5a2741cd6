//! The results for people.

use std::fmt::Write as _;

use super::statistics::{self, Ratio, Spread};
use super::{Cell, Results};
use crate::measured::{Better, Metric};
use crate::options::Named as _;
use crate::peers::Peer;
use crate::workloads::Workload;

pub(super) fn render(results: &Results) -> String {
    let mut text = String::from("# What Weft costs beside others\n\n");
    conditions(&mut text, results);
    for workload in results.workloads() {
        let _ = write!(
            text,
            "\n## {}\n\n{}.\n\n",
            workload.name(),
            workload.description()
        );
        figures(&mut text, results, workload);
        ratios(&mut text, results, workload);
        notes(&mut text, results, workload);
    }
    text
}

fn conditions(text: &mut String, results: &Results) {
    let conditions = &results.conditions;
    let _ = writeln!(
        text,
        "{}; {} round(s), {} s a cell; {}; Linux {}; {}; load average {} before, {} after.\n",
        conditions.name,
        conditions.rounds,
        conditions.seconds_per_cell,
        conditions.machine,
        conditions.kernel,
        conditions.network,
        conditions.load_before,
        conditions.load_after,
    );
    for line in &conditions.versions {
        let _ = writeln!(text, "- {line}");
    }
    for line in &conditions.warnings {
        let _ = writeln!(text, "- **{line}**");
    }
    text.push_str("\nMedians over the rounds, in parentheses the least and the most. A is the client's proxy, B the backend's.\n");
}

fn figures(text: &mut String, results: &Results, workload: Workload) {
    let metrics = results.metrics(workload);
    row(
        text,
        "pair",
        metrics.iter().map(|metric| metric.title().to_owned()),
    );
    rule(text, metrics.len());
    for peer in results.peers() {
        let failed = results
            .cells(workload, peer)
            .any(|cell| matches!(cell, Cell::Failed(_)));
        let cells = metrics.iter().map(|&metric| {
            let values = results.values(workload, peer, metric);
            match statistics::spread(&values) {
                Some(spread) => show(spread, metric, values.len()),
                None if failed => "FAILED".to_owned(),
                None => "–".to_owned(),
            }
        });
        row(text, peer.name(), cells.collect::<Vec<_>>().into_iter());
    }
}

/// Of Weft to each other peer.
fn ratios(text: &mut String, results: &Results, workload: Workload) {
    let metrics: Vec<(Metric, Better)> = results
        .metrics(workload)
        .into_iter()
        .filter_map(|metric| Some((metric, metric.better()?)))
        .collect();
    let mut rows = Vec::new();
    for peer in results.peers() {
        let found: Vec<Option<Ratio>> = metrics
            .iter()
            .map(|(metric, _)| statistics::ratio(&results.pairs(workload, peer, *metric)))
            .collect();
        if peer != Peer::Weft && found.iter().any(Option::is_some) {
            rows.push((peer, found));
        }
    }
    if rows.is_empty() {
        return;
    }
    text.push_str("\nWeft's to each peer's, with 95 % intervals:\n\n");
    let titles = metrics.iter().map(|(metric, better)| {
        let better = match better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        };
        format!("{} ({better} is better)", metric.title())
    });
    row(text, "Weft to", titles);
    rule(text, metrics.len());
    for (peer, found) in rows {
        let cells = found.into_iter().map(|found| match found {
            Some(Ratio {
                ratio,
                interval: Some([low, high]),
            }) => {
                format!("{ratio:.2} ({low:.2}–{high:.2})")
            }
            Some(Ratio {
                ratio,
                interval: None,
            }) => format!("{ratio:.2}"),
            None => "–".to_owned(),
        });
        row(text, peer.name(), cells);
    }
}

/// Why cells are empty or not to be trusted, each reason once.
fn notes(text: &mut String, results: &Results, workload: Workload) {
    let mut lines: Vec<String> = Vec::new();
    for peer in results.peers() {
        for cell in results.cells(workload, peer) {
            let why = match cell {
                Cell::Absent(why) => Some(format!("none: {why}")),
                Cell::Measured { .. } | Cell::Failed(_) => cell.trouble(),
            };
            let line = why.map(|why| format!("- {}: {why}", peer.name()));
            lines.extend(line.filter(|line| !lines.contains(line)));
        }
    }
    if !lines.is_empty() {
        let _ = write!(text, "\n{}\n", lines.join("\n"));
    }
}

fn show(spread: Spread, metric: Metric, rounds: usize) -> String {
    let digits = metric.digits();
    let median = grouped(spread.median, digits);
    if rounds < 2 {
        return median;
    }
    let (min, max) = (grouped(spread.min, digits), grouped(spread.max, digits));
    format!("{median} ({min}–{max})")
}

/// With a comma between thousands.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (text.as_str(), String::new()),
    };
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &fraction
}

fn row(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "| {first} |");
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn rule(text: &mut String, columns: usize) {
    text.push_str("| --- |");
    text.push_str(&" ---: |".repeat(columns));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.96, 1), "1,000.0");
        assert_eq!(grouped(12.345, 2), "12.35");
        assert_eq!(grouped(0.0, 0), "0");
    }
}
