//! The largest texts of a status: messages are cut at their end, streams at their beginning.

/// The longest message of a condition, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// Marks the place where a text was cut.
const MARK: &str = " […]";

/// The beginning of a text, at most `max` bytes. A mark stands where the text was cut.
pub fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// The end of some bytes as text of at most `max` bytes. The flag says that text before it is
/// missing.
///
/// Bytes that are not UTF-8 become U+FFFD, and so does NUL: some clients cannot print it.
pub fn tail(bytes: &[u8], max: usize) -> (String, bool) {
    let start = bytes.len().saturating_sub(max);
    let text = String::from_utf8_lossy(&bytes[start..]).replace('\0', "\u{fffd}");
    // Replacement makes text longer than the bytes were: cut again, from the front.
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let cut = start > 0 || from > 0;
    (text[from..].to_owned(), cut)
}

/// The words that stand for the missing part of a stream.
pub fn missing_mark(missing: u64) -> String {
    format!(
        "[agentvm: {missing} bytes are missing here, because the stream is longer than its limit]"
    )
}

/// The end of a stream of which `missing` bytes were not kept. Where the end is too short to reach
/// them, their mark comes first.
pub fn marked_tail(bytes: &[u8], missing: u64, max: usize) -> (String, bool) {
    let mark = missing_mark(missing);
    let (text, cut) = tail(bytes, max);
    if missing == 0 || text.contains(&mark) {
        return (text, cut || missing > 0);
    }
    let text = tail(bytes, max.saturating_sub(mark.len() + 1)).0;
    (format!("{mark}\n{text}"), true)
}

/// A guest's words: without control characters, at most `max` bytes.
pub fn plain(text: &str, max: usize) -> String {
    clip(&text.replace(|c: char| c.is_control(), "\u{fffd}"), max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_end_says_that_bytes_before_it_are_missing() {
        assert_eq!(marked_tail(b"all", 0, 400), ("all".to_owned(), false));
        let mark = missing_mark(7);
        assert_eq!(marked_tail(b"end", 7, 400), (format!("{mark}\nend"), true));
        let whole = format!("begin\n{mark}\nend");
        assert_eq!(marked_tail(whole.as_bytes(), 7, 400), (whole.clone(), true));
        let (text, cut) = marked_tail(&[b'x'; 1000], 7, 400);
        assert!(cut && text.len() == 400 && text.starts_with(&mark) && text.ends_with("xx"));
    }

    proptest! {
        #[test]
        fn texts_stay_within_their_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300),
            max in 8_usize..100) {
            let (text, cut) = tail(&bytes, max);
            prop_assert!(text.len() <= max);
            prop_assert!(!text.contains('\0'));
            let whole = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
            prop_assert!(cut || text == whole);
            prop_assert!(clip(&String::from_utf8_lossy(&bytes), max).len() <= max);
        }
    }
}
