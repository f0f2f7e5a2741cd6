//! The file that the editor opens, and the remarks above its text.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use weft_wire::ResourceKey;

use crate::failure::SaysNo;
use crate::output::printable;

/// The file that the editor opens; it stays until it is discarded.
pub(super) struct Draft {
    pub(super) path: PathBuf,
}

impl Draft {
    pub(super) fn new(key: &ResourceKey, text: &str) -> anyhow::Result<Self> {
        let name = key.to_string().replace('/', "-");
        let file = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .suffix(".yaml")
            .tempfile()
            .context(SaysNo::new("cannot make a file to edit"))?;
        std::fs::write(file.path(), text).context(SaysNo::new("cannot write the file to edit"))?;
        let (_, path) = file
            .keep()
            .context(SaysNo::new("cannot keep the file to edit"))?;
        Ok(Self { path })
    }

    pub(super) fn read(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))
    }

    pub(super) fn write(&self, text: &str) -> anyhow::Result<()> {
        // Beside it first: a full disk must not take what was typed.
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &self.path))
            .context(SaysNo(format!("cannot write; {}", self.kept())))
    }

    pub(super) fn kept(&self) -> String {
        format!("your text is kept in {}", self.path.display())
    }

    pub(super) fn discard(self) {
        // A draft that stays behind in the temporary folder does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `$EDITOR` may hold arguments, so the shell reads it; the path is handed over as an argument, never as text.
pub(super) fn open_editor(path: &Path) -> anyhow::Result<()> {
    let set = |name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    let editor = set("VISUAL")
        .or_else(|| set("EDITOR"))
        .unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("meshctl-edit")
        .arg(path)
        .status()
        .with_context(|| SaysNo(format!("cannot start the editor `{editor}`")))?;
    if !status.success() {
        bail!(SaysNo(format!(
            "the editor `{editor}` ended with {status}; your text is kept in {}",
            path.display()
        )));
    }
    Ok(())
}

/// The text with what is wrong with it above, as comments.
pub(super) fn with_remarks(problem: &str, text: &str) -> String {
    let mut marked =
        format!("{REMARK} It was not stored. Mend it, or leave it as it is to give up:\n");
    for line in problem.lines() {
        marked.push_str(&format!("{REMARK}   {}\n", printable(line)));
    }
    marked + text
}

/// The text below such comments.
pub(super) fn without_remarks(text: &str) -> &str {
    let mut rest = text;
    while rest.starts_with(REMARK) {
        rest = rest.split_once('\n').map_or("", |(_, below)| below);
    }
    rest
}

/// A comment that nobody writes by hand.
const REMARK: &str = "#!";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_come_and_go_and_leave_the_text() {
        let text = "# mine\nkind: Allow\n";
        let marked = with_remarks("a: first\nb: second\u{1b}", text);
        assert_eq!(
            marked,
            "#! It was not stored. Mend it, or leave it as it is to give up:\n#!   a: first\n#!   b: second\\u{1b}\n# mine\nkind: Allow\n"
        );
        assert_eq!(without_remarks(&marked), text);
        assert_eq!(without_remarks(text), text);
        assert_eq!(without_remarks("#! alone"), "");
    }
}
