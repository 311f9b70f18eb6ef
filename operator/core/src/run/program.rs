//! From `code` or `command` to the executed command.

use agentvm_crds::{AgentRunSpec, Language};

use crate::invalid_spec::InvalidSpec;

/// Where a program's text is put below `/workspace/input`. Ours: `files` can't name it.
pub const CODE_FOLDER: &str = ".agentvm";

/// The executed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub argv: Vec<String>,
    /// Path below `/workspace/input` and content of the text, where there is one.
    pub script: Option<(String, String)>,
}

/// Exactly one of `code` and `command`.
pub fn program(spec: &AgentRunSpec) -> Result<Program, InvalidSpec> {
    match (&spec.code, &spec.command) {
        (Some(code), None) => {
            if code.source.is_empty() {
                return Err(InvalidSpec::new("spec.code.source", "must not be empty"));
            }
            let (interpreter, file) = match code.language {
                Language::Python => ("python3", "main.py"),
                Language::Bash => ("bash", "main.sh"),
                Language::JavaScript => ("node", "main.js"),
            };
            let path = format!("{CODE_FOLDER}/{file}");
            Ok(Program {
                argv: vec![interpreter.to_owned(), format!("/workspace/input/{path}")],
                script: Some((path, code.source.clone())),
            })
        }
        (None, Some(command)) => {
            if command.first().is_none_or(String::is_empty) {
                return Err(InvalidSpec::new("spec.command", "must name a program"));
            }
            if let Some(index) = command.iter().position(|arg| arg.contains('\0')) {
                return Err(InvalidSpec::new(
                    format!("spec.command[{index}]"),
                    "must not contain NUL",
                ));
            }
            Ok(Program { argv: command.clone(), script: None })
        }
        (Some(_), Some(_)) => {
            Err(InvalidSpec::new("spec", "exactly one of code and command must be set, both are"))
        }
        (None, None) => {
            Err(InvalidSpec::new("spec", "exactly one of code and command must be set, neither is"))
        }
    }
}
