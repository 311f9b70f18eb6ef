//! Writes findings as text for people and as JSON for programs (schema in docs/troubleshooting.md).

use serde_json::json;

use super::finding::{Finding, Level, can_run};

/// Width of the prose: a terminal of 100 columns minus the margin.
const WIDTH: usize = 84;

/// A table. The reason and the remedy follow each finding that isn't ok.
pub fn text(findings: &[Finding], colour: bool) -> String {
    let column =
        findings.iter().map(|finding| finding.title.chars().count()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for finding in findings {
        let level = paint(finding.level, &format!("{:7}", label(finding.level)), colour);
        lines.push(format!("{level}  {:column$}  {}\n", finding.title, finding.found));
        if finding.level >= Level::Warning {
            lines.extend(paragraph("why", finding.why));
        }
        if !finding.mend.is_empty() {
            lines.extend(paragraph("mend", &finding.mend));
        }
    }
    format!("{}\n{}", lines.concat(), summary(findings))
}

/// The stable form for programs.
pub fn json(findings: &[Finding], time: &str) -> String {
    let report = json!({
        "version": 1,
        "agentvm": crate::version::VERSION,
        "time": time,
        "canRun": can_run(findings),
        "findings": findings,
    });
    format!("{report:#}\n")
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let number = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict =
        if errors > 0 { "This host can't run agentvm yet" } else { "This host can run agentvm" };
    format!("{verdict}: {}, {}.\n", number(errors, "error"), number(warnings, "warning"))
}

fn label(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn paint(level: Level, text: &str, colour: bool) -> String {
    let code = match level {
        Level::Ok => "32",
        Level::Info => "36",
        Level::Warning => "33",
        Level::Error => "1;31",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Prose below a finding, broken at spaces. Line breaks of the text itself (commands) are kept.
fn paragraph(head: &str, text: &str) -> impl Iterator<Item = String> {
    let heads = std::iter::once(head).chain(std::iter::repeat(""));
    text.lines()
        .flat_map(wrap)
        .zip(heads)
        .map(|(line, head)| format!("         {head:4}  {line}\n"))
}

fn wrap(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        if used > 0 && used + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
            continue;
        }
        if used > 0 {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Check;

    const CHECK: Check = Check { id: "x", title: "Thing", why: "It matters." };

    #[test]
    fn what_is_right_takes_one_line_and_what_is_not_says_how_to_mend_it() {
        let findings = [CHECK.ok("there"), CHECK.error("gone", "Put it back.")];
        let text = text(&findings, false);
        assert_eq!(
            text,
            "ok       Thing  there\n\
             error    Thing  gone\n         why   It matters.\n         mend  Put it back.\n\n\
             This host can't run agentvm yet: 1 error, 0 warnings.\n"
        );
    }

    #[test]
    fn colour_only_where_it_was_asked_for() {
        assert!(text(&[CHECK.ok("x")], true).contains("\x1b[32m"));
        assert!(!text(&[CHECK.ok("x")], false).contains('\x1b'));
    }

    #[test]
    fn long_prose_is_broken_at_spaces() {
        let lines = wrap(&"word ".repeat(40));
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn json_has_every_field_of_the_schema() {
        let json: serde_json::Value =
            serde_json::from_str(&json(&[CHECK.warning("odd", "Do.")], "t")).unwrap();
        assert_eq!(json["canRun"], true);
        assert_eq!(json["findings"][0]["level"], "warning");
        for field in ["id", "title", "found", "why", "mend"] {
            assert!(json["findings"][0][field].is_string(), "{field}");
        }
    }
}
