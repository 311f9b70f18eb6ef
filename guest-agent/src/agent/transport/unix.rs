//! A unix socket on a host: the agent without a machine.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::UnixListener;

use super::{Connection, Links};

/// Listens until the process ends. Takes the place of a socket that an earlier process left.
pub fn listen(path: &Path, links: Links) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if links.send(Connection { link: Box::new(stream), lasting: false }).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
