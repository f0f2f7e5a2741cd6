//! The defences that tests are known to notice: what to take out of the sources, and which test must fail then.
//!
//! One file for each row of the threat table, `tests/defences/row_NN.yaml`. `tests/integration/defences.rs` holds the table to the sources;
//! `tests/long/defences.rs` takes each defence out in turn.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// One defence and the test that notices when it is gone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defence {
    /// What is taken out, in words.
    pub removes: String,
    /// From the root of the repository.
    pub file: PathBuf,
    /// Text that stands exactly once in the file.
    find: String,
    replace: String,
    pub fails: TestName,
    /// The file that lists it, without its ending: `row_05`.
    #[serde(skip)]
    pub row: String,
}

/// A test as cargo finds it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestName {
    pub package: String,
    /// `lib`, or the name of a test target.
    pub target: String,
    /// Its full name, modules included.
    pub test: String,
}

impl Defence {
    /// Every listed defence, by row.
    pub fn all(repository: &Path) -> Result<Vec<Self>> {
        let folder = repository.join("tests/defences");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
        files.sort();
        let mut all = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let listed: Vec<Self> = serde_saphyr::from_str(&text)
                .with_context(|| format!("{} is not a list of defences", file.display()))?;
            let row = file.file_stem().unwrap_or_default().to_string_lossy();
            all.extend(listed.into_iter().map(|defence| Self {
                row: row.clone().into_owned(),
                ..defence
            }));
        }
        Ok(all)
    }

    /// The file's text without the defence.
    pub fn removed(&self, repository: &Path) -> Result<String> {
        let file = repository.join(&self.file);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let count = text.matches(&self.find).count();
        ensure!(
            count == 1,
            "{} ({}): the text to find stands {count} times in {}",
            self.row,
            self.removes,
            self.file.display()
        );
        ensure!(
            self.find != self.replace,
            "{} ({}): nothing is removed",
            self.row,
            self.removes
        );
        Ok(text.replacen(&self.find, &self.replace, 1))
    }
}
