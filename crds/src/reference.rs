//! The API reference as Markdown, written from the definitions and the declarations of reasons.

/// The text of `docs/api-reference.md`.
pub fn reference() -> String {
    String::new()
}
