//! The form of a pattern that `globset` gets.
//!
//! `globset` differs from our grammar in three points. It sees names in `.` and in an empty name.
//! `a/**` does not match `a`. `**` inside braces is `*`. The form removes the three differences.

/// Braces inside braces.
const MAX_NESTING: usize = 4;

/// Says whether the pattern names one path, and nothing in it has another meaning.
pub fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', '{', '}', '\\'])
}

/// The pattern as one branch of a pair of braces.
pub fn normalise(pattern: &str) -> Result<String, String> {
    let mut names: Vec<&str> = split(pattern)?;
    names.retain(|name| !name.is_empty() && *name != ".");
    names.dedup_by(|second, first| *first == "**" && second == first);
    if is_literal(pattern) {
        return Ok(names.join("/"));
    }
    let text = match names.as_slice() {
        ["**"] => "**/*".to_owned(),
        [folder @ .., "**"] => format!("{}{{,/**}}", folder.join("/")),
        all => all.join("/"),
    };
    Ok(escape_commas(&text))
}

/// Splits at each `/` that is in no class and in no braces.
fn split(pattern: &str) -> Result<Vec<&str>, String> {
    let (mut names, mut start) = (Vec::new(), 0);
    for (at, place) in Scanner::new(pattern) {
        let (symbol, depth) = place?;
        if depth > MAX_NESTING {
            return Err(format!("braces are nested deeper than {MAX_NESTING}; write more items"));
        }
        if symbol == '/' && depth == 0 {
            names.push(&pattern[start..at]);
            start = at + 1;
        }
    }
    names.push(&pattern[start..]);
    Ok(names)
}

/// A comma outside of braces is a character like others. Inside the braces of all patterns it must
/// not begin a branch.
fn escape_commas(text: &str) -> String {
    let commas: Vec<usize> = Scanner::new(text)
        .filter_map(|(at, place)| place.is_ok_and(|place| place == (',', 0)).then_some(at))
        .collect();
    let mut escaped = text.to_owned();
    for at in commas.into_iter().rev() {
        escaped.insert(at, '\\');
    }
    escaped
}

/// The characters that are neither escaped nor in a class, each with its depth of braces.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn next_char(&mut self) -> Option<char> {
        let symbol = self.text.get(self.at..)?.chars().next()?;
        self.at += symbol.len_utf8();
        Some(symbol)
    }

    /// Goes behind a class. `globset` reports a class that has no end.
    fn class(&mut self) -> Result<(), String> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let negation = usize::from(rest.starts_with(['!', '^']));
        // The first `]` of a class is a character of it.
        let first = rest[negation..].chars().next().map_or(0, char::len_utf8);
        let end = rest[negation + first..].find(']').map_or(rest.len(), |at| negation + first + at);
        let inside = &rest[..end];
        self.at += end + usize::from(end < rest.len());
        // `globset` compares bytes: it would take a part of such a character for the whole.
        if let Some(symbol) = inside.chars().find(|c| !c.is_ascii()) {
            return Err(format!(
                "`[]` can hold only ASCII characters, and `{symbol}` is none; write \
                 `{{a,{symbol}}}` in place of `[a{symbol}]`"
            ));
        }
        if inside.contains("[:") {
            return Err(
                "`[:` names a class, which `[]` cannot hold; write a range such as `[a-z]`"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// The place of a character, and the character with its depth, or the mistake at that place.
type Place = (usize, Result<(char, usize), String>);

impl Iterator for Scanner<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        loop {
            let at = self.at;
            match self.next_char()? {
                '\\' => drop(self.next_char()),
                '[' => match self.class() {
                    Ok(()) => {}
                    Err(problem) => return Some((at, Err(problem))),
                },
                symbol => {
                    match symbol {
                        '{' => self.depth += 1,
                        '}' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    return Some((at, Ok((symbol, self.depth))));
                }
            }
        }
    }
}
