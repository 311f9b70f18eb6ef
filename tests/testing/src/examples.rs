//! The examples that users copy: the samples, and the YAML of README and guide.

use std::path::Path;

use crate::repository;

/// The pages that have examples.
const PAGES: [&str; 2] = ["README.md", "docs/user-guide.md"];

/// An example, and where it is.
#[derive(Clone, Debug)]
pub struct Example {
    pub origin: String,
    pub text: String,
}

/// All files of `manifests/samples`.
pub fn samples() -> Vec<Example> {
    let folder = repository().join("manifests/samples");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|why| panic!("no samples: {why}"))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    assert!(paths.len() > 10, "{} samples", paths.len());
    paths
        .iter()
        .map(|path| Example { origin: path.display().to_string(), text: read(path) })
        .collect()
}

/// All blocks of YAML in the pages.
pub fn blocks() -> Vec<Example> {
    let found: Vec<Example> = PAGES.iter().flat_map(|page| blocks_of(page)).collect();
    assert!(found.len() >= 10, "{} examples: the pages were not understood", found.len());
    found
}

fn blocks_of(page: &str) -> Vec<Example> {
    let text = read(&repository().join(page));
    let mut found = Vec::new();
    let mut open: Option<Example> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line) {
            (None, "```yaml") => {
                let origin = format!("{page}:{}", number + 1);
                open = Some(Example { origin, text: String::new() });
            }
            (Some(_), "```") => found.extend(open.take()),
            (Some(example), line) => example.text.extend([line, "\n"]),
            (None, _) => {}
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}
