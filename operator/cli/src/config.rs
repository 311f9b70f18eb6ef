//! `agentvm config show`: prints each value of the configuration and its origin.

use std::process::ExitCode;

use serde_json::json;

use super::args::{ConfigCommand, GlobalArgs, OutputFormat};
use super::{Failure, print};
use agentvm_operator::config::{self, Row};

/// Runs the subcommand.
pub fn run(command: &ConfigCommand, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let ConfigCommand::Show { output, settings } = command;
    let loaded = config::load(&settings.flags(global.config.as_deref()))?;
    print(&match output {
        OutputFormat::Text => table(&loaded.origins),
        OutputFormat::Json => format!("{:#}\n", json!({ "settings": loaded.origins })),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let width = |column: fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or_default();
    let (key, value) = (width(|row| row.key.len()), width(|row| row.text().chars().count()));
    let head = format!("{:key$}  {:value$}  {}\n", "KEY", "VALUE", "FROM");
    rows.iter().fold(head, |text, row| {
        text + &format!("{:key$}  {:value$}  {}\n", row.key, row.text(), row.origin)
    })
}
