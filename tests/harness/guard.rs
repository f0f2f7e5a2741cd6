//! What one request costs both sidecars, as `sidecar/src/cost.rs` counts it, and the ceilings that no change may exceed unnoticed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// Requests in flight at a time, on as many connections.
pub const CASES: [usize; 2] = [1, 32];
/// Enough that a connection's own costs vanish, few enough that callgrind takes seconds.
const REQUESTS: usize = 2048;
const TEST: &str = "cost::requests";
/// What callgrind counts, and nothing of a start.
const COUNTED: &str = "weft_sidecar::cost::counted*";

/// Of one request, both sidecars, the client's and the application's script.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    pub allocations: f64,
    pub writes: f64,
    pub instructions: f64,
}

impl Figures {
    pub fn named(self) -> [(&'static str, f64); 3] {
        let Self {
            allocations,
            writes,
            instructions,
        } = self;
        [
            ("allocations", allocations),
            ("writes", writes),
            ("instructions", instructions),
        ]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            allocations,
            writes,
            instructions,
        } = self;
        write!(
            f,
            "{{allocations: {allocations:.2}, writes: {writes:.3}, instructions: {instructions:.0}}}"
        )
    }
}

/// The committed figures, by requests in flight.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Ceilings(BTreeMap<usize, Figures>);

/// What a comparison found.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    pub over: Vec<String>,
    pub far_below: Vec<String>,
}

impl Ceilings {
    pub const FILE: &str = "tests/guard/ceilings.yaml";

    pub fn read() -> Result<Self> {
        let file = workspace().join(Self::FILE);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        serde_saphyr::from_str(&text).with_context(|| file.display().to_string())
    }

    pub fn compare(&self, in_flight: usize, measured: Figures) -> Result<Findings> {
        let ceiling = self.0.get(&in_flight);
        let ceiling = ceiling.with_context(|| format!("no ceiling for {in_flight} in flight"))?;
        let mut findings = Findings::default();
        for ((what, now), (_, then)) in measured.named().into_iter().zip(ceiling.named()) {
            let told =
                format!("{in_flight} in flight: {now:.2} {what} a request against {then:.2}");
            if now - then > (then * SLACK).max(LEAST) {
                findings.over.push(told);
            } else if then - now > (then * FAR).max(LEAST) {
                findings.far_below.push(told);
            }
        }
        Ok(findings)
    }
}

/// The program that counts, built in the profile `guard`.
pub struct Counter {
    program: PathBuf,
}

impl Counter {
    pub fn build() -> Result<Self> {
        let arguments = [
            "test",
            "--quiet",
            "--locked",
            "--profile",
            "guard",
            "--package",
            "weft-sidecar",
        ];
        let built = Command::new(env!("CARGO"))
            .args(arguments)
            .args(["--lib", "--no-run", "--message-format", "json"])
            .current_dir(workspace())
            .output()
            .context("cargo runs")?;
        let said = String::from_utf8_lossy(&built.stdout);
        ensure!(
            built.status.success(),
            "the program that counts does not build:\n{said}{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let program = said.lines().find_map(executable);
        let program = program.context("cargo names no program of weft-sidecar's unit tests")?;
        Ok(Self { program })
    }

    /// Counts one case. What callgrind counts is a run of its own.
    pub fn count(&self, in_flight: usize) -> Result<Figures> {
        let counted = Counted::of(&self.run(Command::new(&self.program), in_flight)?)?;
        #[allow(clippy::cast_precision_loss, reason = "they are far below 2^52")]
        let each = |count: u64| count as f64 / counted.requests as f64;
        Ok(Figures {
            allocations: each(counted.allocations),
            writes: each(counted.writes),
            instructions: each(self.instructions(in_flight)?),
        })
    }

    fn instructions(&self, in_flight: usize) -> Result<u64> {
        let folder = tempfile::tempdir()?;
        let written = folder.path().join("callgrind");
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--toggle-collect={COUNTED}"))
            .arg(format!("--callgrind-out-file={}", written.display()))
            .arg(&self.program);
        self.run(valgrind, in_flight)?;
        let text = fs::read_to_string(&written).context("callgrind wrote nothing")?;
        let summary = text.lines().find_map(|line| line.strip_prefix("summary: "));
        let count: u64 = summary.context("callgrind wrote no sum")?.trim().parse()?;
        ensure!(
            count > 0,
            "callgrind found no function {COUNTED}: does cost.rs still have it?"
        );
        Ok(count)
    }

    fn run(&self, mut command: Command, in_flight: usize) -> Result<String> {
        let named = command.get_program().to_owned();
        let ran = command
            .args([
                "--exact",
                TEST,
                "--ignored",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env("WEFT_COST_IN_FLIGHT", in_flight.to_string())
            .env("WEFT_COST_REQUESTS", REQUESTS.to_string())
            .output();
        let ran = match ran {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!(
                    "{} is missing: install it (apt-get install valgrind)",
                    named.display()
                )
            }
            ran => ran.with_context(|| named.display().to_string())?,
        };
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let complained = String::from_utf8_lossy(&ran.stderr);
        ensure!(
            ran.status.success(),
            "{} failed:\n{said}{complained}",
            named.display()
        );
        Ok(said)
    }
}

/// What `cost::requests` prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted {
    requests: u64,
    allocations: u64,
    writes: u64,
}

impl Counted {
    fn of(said: &str) -> Result<Self> {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("weft-cost "));
        let line = line.with_context(|| format!("{TEST} told no figures:\n{said}"))?;
        Ok(serde_json::from_str(line)?)
    }
}

/// How far the figures of several runs lie apart, as parts of the least, or of one where the least is less.
pub fn spread(runs: &[Figures]) -> Vec<(&'static str, f64)> {
    let names = ["allocations", "writes", "instructions"];
    let of = |at: usize| runs.iter().map(move |run| run.named()[at].1);
    names
        .into_iter()
        .enumerate()
        .map(|(at, name)| {
            let (least, most) = (of(at).fold(f64::MAX, f64::min), of(at).fold(0.0, f64::max));
            (name, (most - least) / least.max(1.0))
        })
        .collect()
}

/// What stands in the file of ceilings for these figures.
pub fn as_ceilings(measured: &[(usize, Figures)]) -> String {
    measured
        .iter()
        .fold(String::new(), |mut text, (in_flight, figures)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{in_flight}: {figures}");
            text
        })
}

fn executable(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_it = message["target"]["name"] == "weft_sidecar" && message["profile"]["test"] == true;
    is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
}

fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests lie in the workspace")
}

/// How much more than its ceiling a figure may be: what another compiler or C library may change without anybody's doing.
const SLACK: f64 = 0.05;
/// What is less than this is none: a buffer that grew once more in thousands of requests.
const LEAST: f64 = 0.05;
/// How much less a figure is told: its ceiling would let a loss pass.
const FAR: f64 = 0.10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_its_slack_or_far_below_is_told_with_its_case() {
        let ceilings: Ceilings =
            serde_saphyr::from_str("1: {allocations: 100, writes: 4, instructions: 10000}")
                .unwrap();
        let figures = |allocations, writes, instructions| Figures {
            allocations,
            writes,
            instructions,
        };
        let near = ceilings.compare(1, figures(104.9, 4.0, 9_001.0)).unwrap();
        assert_eq!(near, Findings::default());
        let found = ceilings.compare(1, figures(105.1, 3.5, 10_501.0)).unwrap();
        assert_eq!(found.over.len(), 2, "{found:?}");
        assert!(
            found.over[0].contains("1 in flight: 105.10 allocations"),
            "{found:?}"
        );
        assert!(
            found.over[1].contains("10501.00 instructions a request against 10000.00"),
            "{found:?}"
        );
        assert!(found.far_below[0].contains("3.50 writes"), "{found:?}");
        assert!(ceilings.compare(2, figures(1.0, 1.0, 1.0)).is_err());
    }

    #[test]
    fn where_nothing_is_allocated_one_allocation_in_ten_requests_is_too_many() {
        let ceilings: Ceilings =
            serde_saphyr::from_str("1: {allocations: 0, writes: 4, instructions: 10000}").unwrap();
        let over = |allocations| {
            let figures = Figures {
                allocations,
                writes: 4.0,
                instructions: 10_000.0,
            };
            ceilings.compare(1, figures).unwrap().over.len()
        };
        assert_eq!((over(0.0), over(0.002), over(0.1)), (0, 0, 1));
    }

    #[test]
    fn what_is_printed_for_the_file_of_ceilings_can_be_read_from_it() {
        let figures = Figures {
            allocations: 12.25,
            writes: 2.125,
            instructions: 30_000.0,
        };
        let text = as_ceilings(&[(1, figures), (32, figures)]);
        let ceilings: Ceilings = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(ceilings.0, BTreeMap::from([(1, figures), (32, figures)]));
    }

    #[test]
    fn the_spread_is_of_the_least() {
        let figures = |instructions| Figures {
            allocations: 1.0,
            writes: 2.0,
            instructions,
        };
        let spread = spread(&[figures(110.0), figures(100.0), figures(105.0)]);
        assert_eq!(spread[0], ("allocations", 0.0));
        assert!((spread[2].1 - 0.1).abs() < 1e-9);
    }
}
