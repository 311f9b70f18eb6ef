//! From `code` or `command` to the executed command.

use agentvm_crds::{AgentRunSpec, Language};

use crate::invalid_spec::InvalidSpec;

/// The executed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub argv: Vec<String>,
    /// Name and content of the text, where there is one. It is a file beside those of `files`, so
    /// that they form one project. `files` can't have this name.
    pub script: Option<(&'static str, String)>,
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
            Ok(Program {
                argv: vec![interpreter.to_owned(), format!("/workspace/work/{file}")],
                script: Some((file, code.source.clone())),
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
