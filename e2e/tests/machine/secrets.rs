//! Secrets are in the memory of one machine, as long as it lives, and on no disk of the host.

use std::process::Command;

use agentvm_e2e::{Error, Host, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;

pub async fn a_secret_is_in_the_machines_memory_and_nowhere_else(host: &Host) -> Result<(), Error> {
    // Not in one piece in this program's own files.
    let text = format!("{}-{:x}", ["agentvm", "e2e", "marker"].join("+"), std::process::id());
    let secret = json!({"metadata": {"name": "deploy"}, "stringData": {"key": text, "variable": text}});
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
            "env": [{"name": "TEXT", "valueFrom": {"secretKeyRef": {"name": "deploy", "key": "variable"}}}],
            "files": [{
                "path": "keys/deploy",
                "place": "Secrets",
                "mode": 0o400,
                "contentFrom": {"secretKeyRef": {"name": "deploy", "key": "key"}},
            }],
        }))
        .await?;
    host.until_in_output(&name, "looked").await?;
    let while_it_runs = holding(host, &text)?;
    host.cancel(&name).await?;
    let run = host.ended(&name).await?;
    ensure!(run.reason() == "Cancelled", "{run}");
    let said = format!("400 agent {} tmpfs 700 agent\nit is the secret\n", text.len());
    ensure!(run.stdout() == said, "{run}");
    ensure!(while_it_runs.is_empty(), "the secret is in {while_it_runs}");
    let afterwards = holding(host, &text)?;
    ensure!(afterwards.is_empty(), "the secret is in {afterwards}");
    Ok(())
}

/// Files of the installation that have the text in them; but for etcd's, where Kubernetes keeps Secrets, and the image's,
/// which are older than this one.
fn holding(host: &Host, text: &str) -> Result<String, Error> {
    let mut grep = Command::new("grep");
    // Not `--text`: what isn't text is looked through as well, without the gigabytes that are holes.
    grep.env("LC_ALL", "C").args(["--recursive", "--files-with-matches", "--fixed-strings", "--devices=skip"]);
    grep.args(["--exclude-dir=etcd", "--exclude=rootfs.raw", "--exclude=initrd.img", "--regexp", text])
        .arg(host.dir.path())
        .arg(host.dir.log());
    Ok(String::from_utf8(grep.output()?.stdout)?)
}
