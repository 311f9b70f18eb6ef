//! Secrets are in the memory of one machine, as long as it lives, and on no disk of the host.

use agentvm_e2e::{Error, Host, ensure, holding};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;

pub async fn a_secret_is_in_the_machines_memory_and_nowhere_else(host: &Host) -> Result<(), Error> {
    // The text is in pieces here, so that this program's own files do not contain it.
    let text = format!("{}-{:x}", ["agentvm", "e2e", "marker"].join("+"), std::process::id());
    let secret =
        json!({"metadata": {"name": "deploy"}, "stringData": {"key": text, "variable": text}});
    host.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let script = r#"
        cd /workspace/secrets
        echo "$(stat -c '%a %U %s' keys/deploy) $(stat -f -c %T .) $(stat -c '%a %U' .)"
        [ "$(cat keys/deploy)" = "$TEXT" ] && echo "it is the secret"
        sync
        echo done > /workspace/output/looked
        exec sleep 600
    "#;
    let name = host
        .submit(json!({
            "command": ["bash", "-c", script],
            "env": [{"name": "TEXT", "valueFrom": {"secretKeyRef": {"name": "deploy",
                "key": "variable"}}}],
            "files": [{
                "path": "keys/deploy",
                "place": "Secrets",
                "mode": 0o400,
                "contentFrom": {"secretKeyRef": {"name": "deploy", "key": "key"}},
            }],
        }))
        .await?;
    host.until_in_output(&name, "looked").await?;
    let while_it_runs = holding(&host.dir, &text)?;
    host.cancel(&name).await?;
    let run = host.ended(&name).await?;
    ensure!(run.reason() == "Cancelled", "{run}");
    let said = format!("400 agent {} tmpfs 700 agent\nit is the secret\n", text.len());
    ensure!(run.stdout() == said, "{run}");
    ensure!(while_it_runs.is_empty(), "the secret is in {while_it_runs}");
    let afterwards = holding(&host.dir, &text)?;
    ensure!(afterwards.is_empty(), "the secret is in {afterwards}");
    Ok(())
}
