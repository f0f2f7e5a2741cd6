//! Paths that a user named → texts: files, folders with everything below them, and `-` for standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

/// A file's name as it is shown in errors, and its content.
pub(crate) struct Text {
    pub(crate) file: String,
    pub(crate) content: String,
    /// Found in a folder, not named by the user.
    pub(crate) in_folder: bool,
}

/// Reads all that was named; what cannot be read is a problem, never left out.
pub(crate) fn read_all(named: &[String], problems: &mut Vec<String>) -> Vec<Text> {
    let mut texts = Vec::new();
    for name in named {
        if name == STDIN {
            match read_stdin() {
                Ok(content) => texts.push(Text {
                    file: "stdin".to_owned(),
                    content,
                    in_folder: false,
                }),
                Err(problem) => problems.push(format!("stdin: {problem}")),
            }
            continue;
        }
        let mut files = Vec::new();
        let in_folder = Path::new(name).is_dir();
        collect(Path::new(name), Named::ByUser, &mut files, problems);
        for file in files {
            match read(&file) {
                Ok(content) => texts.push(Text {
                    file: file.display().to_string(),
                    content,
                    in_folder,
                }),
                Err(problem) => problems.push(format!("{}: {problem}", file.display())),
            }
        }
    }
    texts
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    ByUser,
    ByFolder,
}

/// Adds the file, or every document file below the folder in the order of their names.
fn collect(path: &Path, named: Named, files: &mut Vec<PathBuf>, problems: &mut Vec<String>) {
    // A link below a folder may lead back up; one that the user named is followed.
    let found = match named {
        Named::ByUser => std::fs::metadata(path),
        Named::ByFolder => std::fs::symlink_metadata(path),
    };
    match found {
        Err(error) => problems.push(format!("{}: {error}", path.display())),
        Ok(found) if found.is_dir() => match entries(path) {
            Err(error) => problems.push(format!("{}: {error}", path.display())),
            Ok(entries) => {
                let before = files.len();
                for entry in entries {
                    collect(&entry, Named::ByFolder, files, problems);
                }
                if named == Named::ByUser && files.len() == before {
                    problems.push(format!(
                        "{}: no .yaml, .yml or .json file in it",
                        path.display()
                    ));
                }
            }
        },
        Ok(_) if named == Named::ByUser || is_document_file(path) => files.push(path.to_owned()),
        Ok(_) => {}
    }
}

fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_document_file(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    bounded(file)
}

fn read_stdin() -> Result<String, String> {
    bounded(std::io::stdin().lock())
}

fn bounded(source: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    source
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_LIMIT) {
        return Err(format!("longer than {FILE_LIMIT} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

const STDIN: &str = "-";
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Far beyond any file of policy that a person or a generator writes.
const FILE_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_order_without_hidden_and_foreign_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "deep/c.json",
            "notes.txt",
            ".hidden.yaml",
        ] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let mut problems = Vec::new();
        let texts = read_all(&[folder.path().display().to_string()], &mut problems);
        let contents: Vec<_> = texts.iter().map(|text| text.content.as_str()).collect();
        assert_eq!(contents, ["a.yml", "b.yaml", "deep/c.json"]);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn a_link_that_leads_back_up_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        std::fs::write(folder.path().join("a.yaml"), "a").unwrap();
        let mut problems = Vec::new();
        assert_eq!(
            read_all(&[folder.path().display().to_string()], &mut problems).len(),
            1
        );
    }

    #[test]
    fn what_cannot_be_read_is_reported_beside_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.yaml");
        std::fs::write(&good, "a: 1").unwrap();
        std::fs::write(folder.path().join("latin.yaml"), b"\xe4").unwrap();
        let mut problems = Vec::new();
        let named = [
            folder.path().display().to_string(),
            "/does/not/exist.yaml".to_owned(),
        ];
        assert_eq!(read_all(&named, &mut problems).len(), 1);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
