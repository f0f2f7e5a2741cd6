//! The defences that tests are known to notice: what to take out of the sources, and which test must fail then.
//!
//! One file for each row of the threat table, `tests/defences/row_NN.yaml`. `tests/integration/defences.rs` holds the table to the sources;
//! `tests/long/defences.rs` takes each defence out in turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// One defence and the test that notices when it is gone.
#[derive(Debug, Clone, Deserialize)]
pub struct Defence {
    /// What is taken out, in words.
    pub removes: String,
    #[serde(flatten)]
    edit: Edit,
    /// Where the same defence stands a second time.
    #[serde(default)]
    also: Vec<Edit>,
    pub fails: TestName,
    /// The file that lists it, without its ending: `row_05`.
    #[serde(skip)]
    pub row: String,
}

/// One place in the sources.
#[derive(Debug, Clone, Deserialize)]
struct Edit {
    /// From the root of the repository.
    file: PathBuf,
    /// Text that stands exactly once in the file.
    find: String,
    replace: String,
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
            let text = read(&file)?;
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

    /// The files without the defence, each with its text.
    pub fn removed(&self, repository: &Path) -> Result<BTreeMap<PathBuf, String>> {
        let mut files = BTreeMap::new();
        for edit in std::iter::once(&self.edit).chain(&self.also) {
            let text = match files.remove(&edit.file) {
                Some(text) => text,
                None => read(&repository.join(&edit.file))?,
            };
            let count = text.matches(&edit.find).count();
            let (row, removes, file) = (&self.row, &self.removes, edit.file.display());
            ensure!(
                count == 1,
                "{row} ({removes}): the text to find stands {count} times in {file}"
            );
            ensure!(
                edit.find != edit.replace,
                "{row} ({removes}): nothing is removed from {file}"
            );
            let text = text.replacen(&edit.find, &edit.replace, 1);
            files.insert(edit.file.clone(), text);
        }
        Ok(files)
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
