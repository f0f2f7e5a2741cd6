//! Everything that is wrong with a configuration, told at once.

use std::fmt;
use std::str::FromStr;

/// Collects problems while a configuration is converted; empty at the end means that it is usable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigProblems {
    problems: Vec<Problem>,
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    key: String,
    value: Option<String>,
    reason: String,
}

impl ConfigProblems {
    /// No problem yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key cannot be used.
    pub fn wrong(
        &mut self,
        key: impl Into<String>,
        value: impl fmt::Display,
        reason: impl fmt::Display,
    ) {
        self.problems.push(Problem {
            key: key.into(),
            value: Some(value.to_string()),
            reason: reason.to_string(),
        });
    }

    /// A key that must be there is not.
    pub fn missing(&mut self, key: impl Into<String>, reason: impl fmt::Display) {
        self.problems.push(Problem {
            key: key.into(),
            value: None,
            reason: reason.to_string(),
        });
    }

    /// Parses a value or notes why it cannot be parsed.
    pub fn parse<T>(&mut self, key: &str, value: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        value
            .parse()
            .map_err(|error: T::Err| self.wrong(key, value, error))
            .ok()
    }

    /// Parses the value of a key that must be there.
    pub fn require<T>(&mut self, key: &str, value: Option<&str>) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match value {
            Some(value) => self.parse(key, value),
            None => {
                self.missing(key, "it is required");
                None
            }
        }
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl std::error::Error for ConfigProblems {}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} problem(s) in the configuration:",
            self.problems.len()
        )?;
        for problem in &self.problems {
            match &problem.value {
                Some(value) => write!(
                    f,
                    "\n  {}: `{}`: {}",
                    problem.key,
                    value.escape_debug(),
                    problem.reason
                )?,
                None => write!(f, "\n  {}: {}", problem.key, problem.reason)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_with_key_value_and_reason() {
        let mut problems = ConfigProblems::new();
        assert_eq!(problems.parse::<u16>("port", "80"), Some(80));
        assert!(problems.is_empty());
        assert_eq!(problems.parse::<u16>("port", "eighty"), None);
        assert_eq!(problems.require::<u16>("admin", None), None);
        let told = problems.to_string();
        assert!(told.starts_with("2 problem(s)"), "{told}");
        assert!(told.contains("port: `eighty`: invalid digit"), "{told}");
        assert!(told.contains("admin: it is required"), "{told}");
    }
}
