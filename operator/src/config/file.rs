//! Reads one YAML file into flat entries (`pool.min_size`, text, line, column). This file knows no
//! keys and checks no values.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{ConfigError, Origin};

/// Large enough for any configuration, and small enough to read into memory.
const MAX_BYTES: u64 = 1 << 20;

/// Decides whether a missing file is a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    Fine,
    Refused,
}

/// The content of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Scalar(String),
    /// The key has no value: `key:`.
    Empty,
    List,
}

/// A key of a file. The path begins at the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: String,
    pub content: Content,
    pub origin: Origin,
}

/// Reads a file. A missing file gives no entries, if it may be missing.
pub(super) fn read(path: &Path, absent: Absent) -> Result<Vec<Entry>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match absent {
                Absent::Fine => Ok(Vec::new()),
                Absent::Refused => Err(ConfigError::Missing { path: path.to_owned() }),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let wrong =
        |detail: &str| ConfigError::Syntax { path: path.to_owned(), detail: detail.to_owned() };
    if !metadata.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(wrong("it is larger than 1 MiB"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
    parse(&text, path)
}

/// The entries of a text, in the order of the text.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let nothing = text.lines().all(|line| matches!(line.trim().bytes().next(), None | Some(b'#')));
    if nothing {
        return Ok(Vec::new());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let syntax = |detail: String| ConfigError::Syntax { path: path.to_owned(), detail };
    let root: Node = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| syntax(error.to_string()))?;
    let mut entries = Vec::new();
    match root {
        Node::Map(map) => flatten("", map, path, &mut entries),
        Node::Null => {}
        Node::Scalar(_) | Node::List => {
            return Err(syntax(
                "it must be a mapping of sections (libvirt:, vm:, pool:, …)".to_owned(),
            ));
        }
    }
    Ok(entries)
}

type Map = Vec<(Spanned<String>, Spanned<Node>)>;

enum Node {
    Scalar(String),
    Null,
    List,
    Map(Map),
}

fn flatten(prefix: &str, map: Map, file: &Path, into: &mut Vec<Entry>) {
    for (key, node) in map {
        let path = if prefix.is_empty() { key.value } else { format!("{prefix}.{}", key.value) };
        let at = |location: &Location| origin(file.to_owned(), location);
        let (content, origin) = match node.value {
            Node::Map(map) if !map.is_empty() => {
                flatten(&path, map, file, into);
                continue;
            }
            Node::Scalar(text) => (Content::Scalar(text), at(&node.referenced)),
            Node::List => (Content::List, at(&node.referenced)),
            Node::Null | Node::Map(_) => (Content::Empty, at(&key.referenced)),
        };
        into.push(Entry { path, content, origin });
    }
}

fn origin(path: PathBuf, location: &Location) -> Origin {
    Origin::File { path, line: location.line(), column: location.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a section")
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Scalar(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut map = Map::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64, column: u64) -> Origin {
        Origin::File { path: PathBuf::from("f"), line, column }
    }

    fn entries(text: &str) -> Vec<Entry> {
        parse(text, Path::new("f")).unwrap()
    }

    fn refused(text: &str) -> String {
        parse(text, Path::new("f")).unwrap_err().to_string()
    }

    #[test]
    fn sections_become_paths_with_the_place_of_each_value() {
        let read = entries("pool:\n  min_size: 3\nsecurity:\n  resource_limits: {cpu_shares: 7}\n");
        assert_eq!(
            read[0],
            Entry {
                path: "pool.min_size".into(),
                content: Content::Scalar("3".into()),
                origin: at(2, 13)
            }
        );
        assert_eq!(read[1].path, "security.resource_limits.cpu_shares");
    }

    #[test]
    fn nothing_is_nothing() {
        for empty in ["", "\n", "# only a comment\n", "---\n", "{}\n", "null\n"] {
            assert_eq!(entries(empty), [], "{empty:?}");
        }
        assert_eq!(entries("pool:\n")[0].content, Content::Empty);
        assert_eq!(entries("pool: [1, {a: b}]\n")[0].content, Content::List);
    }

    #[test]
    fn what_is_not_a_configuration_is_refused_with_its_place() {
        assert!(refused("pool: {\n").contains("line"), "{}", refused("pool: {\n"));
        assert!(refused("a: 1\na: 2\n").contains("line 2"), "{}", refused("a: 1\na: 2\n"));
        assert!(refused("just text\n").contains("mapping"));
        assert!(refused("- a\n").contains("mapping"));
        assert!(refused("a: 1\n---\nb: 2\n").contains("not a configuration file"));
    }

    #[test]
    fn a_missing_file_is_fine_only_where_it_may_be_missing() {
        let nowhere = Path::new("/nonexistent/config.yaml");
        assert_eq!(read(nowhere, Absent::Fine).unwrap(), []);
        assert!(matches!(read(nowhere, Absent::Refused), Err(ConfigError::Missing { .. })));
        assert!(matches!(read(Path::new("/tmp"), Absent::Fine), Err(ConfigError::Syntax { .. })));
    }
}
