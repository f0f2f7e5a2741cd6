//! Configuration templates: `{{name}}` stands for a value.

use std::path::Path;

use anyhow::{Context as _, bail};

/// Fills a template in and writes it; a placeholder without a value is an error.
pub(crate) fn write(path: &Path, template: &str, values: &[(&str, String)]) -> anyhow::Result<()> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    if let Some((_, rest)) = text.split_once("{{") {
        let name: String = rest.chars().take_while(|&c| c != '}').collect();
        bail!("{}: nothing stands for {name}", path.display());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_without_a_value_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("conf");
        let value = [("port", "80".to_owned())];
        write(&path, "listen {{port}};", &value).expect("it is whole");
        assert_eq!(
            std::fs::read_to_string(&path).expect("written"),
            "listen 80;"
        );
        let error = write(&path, "listen {{host}}:{{port}};", &value).expect_err("no host");
        assert!(error.to_string().contains("host"), "{error}");
    }
}
