//! Dotted paths into a JSON document: `request.users[0].id`.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathStep {
    /// The value of an object's key.
    Key(String),
    /// The array element at this index, from 0.
    Index(usize),
}

/// A path to a value in a source document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub(crate) steps: Vec<PathStep>,
}

impl Path {
    /// Parses `key.key[0].key`. `key[*].key` and `key.key` are the same: a path continues in every element of an
    /// array. The error is a message for the author of the mapping.
    ///
    /// # Errors
    /// The path has an empty key, an unclosed bracket, or an index that is not a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (key, mut brackets) = match part.find('[') {
                Some(at) => part.split_at(at),
                None => (part, ""),
            };
            if key.is_empty() {
                return Err(format!("path '{text}' has an empty key"));
            }
            steps.push(PathStep::Key(key.to_owned()));
            while !brackets.is_empty() {
                if let Some(rest) = brackets.strip_prefix("[*]") {
                    brackets = rest;
                    continue;
                }
                let index = brackets
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once(']'))
                    .and_then(|(digits, rest)| Some((digits.parse().ok()?, rest)));
                let Some((index, rest)) = index else {
                    return Err(format!("path '{text}' needs an index like [0] or [*] at '{brackets}'"));
                };
                steps.push(PathStep::Index(index));
                brackets = rest;
            }
        }
        Ok(Self { steps })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                PathStep::Key(key) if at == 0 => write!(f, "{key}")?,
                PathStep::Key(key) => write!(f, ".{key}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_same_path() {
        for text in ["actor", "a.b.c", "a[0]", "a.b[2][10].c"] {
            assert_eq!(Path::parse(text).map(|p| p.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn rejects_malformed_paths() {
        for text in ["", "a..b", ".a", "a[", "a[x]", "a[0]b", "[0]"] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }
}
