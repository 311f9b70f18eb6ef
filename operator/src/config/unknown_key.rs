//! Says what is wrong with a path that is not a key: "did you mean …?".

use super::file::Content;

/// The mistake of a path that is not a key. An empty section is not a mistake.
pub(super) fn unknown(path: &str, content: &Content, known: &[&str]) -> Option<String> {
    let within: Vec<&str> =
        known.iter().filter_map(|key| key.strip_prefix(path)?.strip_prefix('.')).collect();
    if !within.is_empty() {
        let keys = within.join(", ");
        return (*content != Content::Empty)
            .then(|| format!("is a section, not a value; its keys: {keys}"));
    }
    let parent =
        known.iter().find(|key| path.strip_prefix(**key).is_some_and(|rest| rest.starts_with('.')));
    if let Some(parent) = parent {
        return Some(format!("there is no such key: {parent} takes a value, not a section"));
    }
    if let Some(near) = nearest(path, known.iter().copied()) {
        return Some(format!("there is no such key; did you mean {near}?"));
    }
    Some(format!("there is no such key; the keys are {}", known.join(", ")))
}

/// The key that the user probably meant: similar as a whole, or with an equal last part.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |name: &str| {
        let whole = strsim::jaro_winkler(text, name);
        let tail = strsim::jaro_winkler(&last(text), &last(name));
        if last(text) == last(name) { 1.0 + whole } else { f64::midpoint(whole, tail) }
    };
    names
        .map(|name| (name, score(name)))
        .filter(|(_, score)| *score > 0.85)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_and_a_wrong_section_are_recognised_and_nonsense_is_not() {
        let names = ["pool.min_size", "pool.max_size", "execution.max_timeout"];
        assert_eq!(nearest("pool.min_sise", names.into_iter()), Some("pool.min_size"));
        assert_eq!(nearest("vm.min_size", names.into_iter()), Some("pool.min_size"));
        assert_eq!(nearest("pool.minsize", names.into_iter()), Some("pool.min_size"));
        assert_eq!(nearest("monitoring.anomaly_detection", names.into_iter()), None);
    }
}
