//! Takes each listed defence out of a copy of the sources and demands that the test named beside it fails.
//!
//! `WEFT_DEFENCES=row_05` runs one row only. The copy and what is built of it lie in `target/defences` and are used again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use weft_tests::Defence;

#[test]
fn every_listed_defence_is_missed_when_it_is_gone() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let only = std::env::var("WEFT_DEFENCES").ok();
    let defences: Vec<Defence> = Defence::all(&repository)
        .expect("the table can be read")
        .into_iter()
        .filter(|defence| only.as_ref().is_none_or(|only| *only == defence.row))
        .collect();
    assert!(!defences.is_empty(), "no defence is listed");
    let copy = Copy::of(&repository).expect("the sources can be copied");
    let mut unmissed = Vec::new();
    for defence in &defences {
        let started = Instant::now();
        match copy.without(defence) {
            Ok(()) => println!(
                "{}: without {}: {} fails, as it must ({} s)",
                defence.row,
                defence.removes,
                defence.fails.test,
                started.elapsed().as_secs()
            ),
            Err(error) => {
                println!("{}: without {}: {error:#}", defence.row, defence.removes);
                unmissed.push(format!("{}: {}", defence.row, defence.removes));
            }
        }
    }
    println!(
        "{} of {} defences were missed",
        defences.len() - unmissed.len(),
        defences.len()
    );
    assert!(
        unmissed.is_empty(),
        "nothing noticed that these were gone: {unmissed:#?}"
    );
}

/// A copy of the sources, with a target folder of its own.
struct Copy {
    sources: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn of(repository: &Path) -> Result<Self> {
        let folder = repository
            .join("target/defences")
            .components()
            .collect::<PathBuf>();
        let copy = Self {
            sources: folder.join("sources"),
            target: folder.join("target"),
        };
        let listed = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(repository)
            .output()
            .context("git lists the sources")?;
        ensure!(listed.status.success(), "git cannot list the sources");
        for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let (from, to) = (repository.join(name), copy.sources.join(name));
            let Ok(content) = std::fs::read(&from) else {
                continue;
            };
            // What is equal keeps its time, so that nothing is built again for it.
            if std::fs::read(&to).is_ok_and(|known| known == content) {
                continue;
            }
            std::fs::create_dir_all(to.parent().context("every file has a folder")?)?;
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {name}"))?;
        }
        Ok(copy)
    }

    /// Succeeds if the named test passes with the defence and fails without it.
    fn without(&self, defence: &Defence) -> Result<()> {
        let mut whole = Vec::new();
        for (file, text) in defence.removed(&self.sources)? {
            let file = self.sources.join(file);
            whole.push((file.clone(), std::fs::read_to_string(&file)?));
            std::fs::write(&file, text)?;
        }
        let ran = self.run(defence);
        for (file, text) in whole {
            std::fs::write(&file, text)?;
        }
        let (said, passed) = ran?;
        if passed {
            bail!("{} passes all the same", defence.fails.test);
        }
        let name = &defence.fails.test;
        ensure!(
            said.contains(&format!("test {name} ... FAILED")),
            "{name} did not run:\n{said}"
        );
        Ok(())
    }

    fn run(&self, defence: &Defence) -> Result<(String, bool)> {
        let name = &defence.fails;
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--package", &name.package]);
        match name.target.as_str() {
            "lib" => command.arg("--lib"),
            target => command.args(["--test", target]),
        };
        let output = command
            .args(["--", "--exact", "--format", "pretty", &name.test])
            .env("CARGO_TARGET_DIR", &self.target)
            .current_dir(&self.sources)
            .output()
            .context("cargo runs")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            String::from_utf8_lossy(&said).into_owned(),
            output.status.success(),
        ))
    }
}
