//! From a valid run and the content that it refers to, to the description of one attempt.

use std::time::Duration;

use agentvm_core::run::{Content, EnvValue};
use agentvm_crds::{Attempt, Place};
use agentvm_hypervisor::{CollectSpec, InputFile};

use super::{Run, created, full_name, references::Resolved};
use crate::{
    agent::wire_run_as,
    controllers::Context,
    machines::{AttemptSpec, SecretFile},
};

/// The largest number of files that are taken from one run's output.
const MAX_OUTPUT_FILES: usize = 10_000;
/// The largest number of entries that are looked at in one run's output.
const MAX_OUTPUT_ENTRIES: usize = 100_000;

/// Everything that the attempt needs, in one piece.
pub fn attempt_spec(
    run: &Run<'_>,
    resolved: &Resolved,
    attempt: &Attempt,
    cx: &Context,
) -> AttemptSpec {
    let Run { object, uid, valid } = run;
    let claimed =
        agentvm_core::calendar::parse(&attempt.start_time).unwrap_or_else(|| cx.clock.now());
    let env = valid.env.iter().map(|item| match &item.value {
        EnvValue::Literal(text) => AttemptSpec::env_var(&item.name, text.as_bytes()),
        EnvValue::From(key) => AttemptSpec::env_var(&item.name, resolved.get(key)),
    });
    let mut input: Vec<InputFile> = Vec::new();
    let mut secrets: Vec<SecretFile> = Vec::new();
    if let Some((name, source)) = &valid.program.script {
        input.push(InputFile {
            path: (*name).to_owned(),
            mode: 0o644,
            content: source.clone().into_bytes(),
        });
    }
    for file in &valid.files {
        let content = match &file.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::From(key) => resolved.get(key).to_vec(),
        };
        match file.place {
            Place::Input => {
                input.push(InputFile { path: file.path.clone(), mode: file.mode, content });
            }
            Place::Secrets => {
                secrets.push(SecretFile { path: file.path.clone(), mode: file.mode, content });
            }
        }
    }
    AttemptSpec {
        run_uid: uid.clone(),
        run: full_name(object),
        attempt: attempt.number,
        argv: valid.program.argv.clone(),
        env: env.collect(),
        run_as: wire_run_as(object.spec.run_as),
        stdin: valid.stdin.clone().map(String::into_bytes),
        timeout: Duration::from_secs(u64::from(valid.timeout_seconds)),
        missing: None,
        stop: None,
        input,
        secrets,
        max_stream_bytes: valid.max_bytes,
        collect: CollectSpec {
            include: valid.include.clone(),
            max_bytes: valid.max_bytes,
            max_files: MAX_OUTPUT_FILES,
            max_entries: MAX_OUTPUT_ENTRIES,
        },
        folder: cx.runs_folder.join(uid.as_str()).join(attempt.number.to_string()),
        created: created(object),
        claimed,
    }
}
