//! vsock: only the host may connect.

use std::io;

use agentvm_guest_agent::protocol::VSOCK_PORT;
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener};

use super::{Connection, Links};

/// Listens until the process ends. Bound to any CID: a clone has another one than its template.
pub fn listen(links: Links) -> io::Result<()> {
    let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, VSOCK_PORT))?;
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            // A run inside can connect too, over loopback; it isn't the host.
            if peer.cid() == VMADDR_CID_HOST
                && links.send(Connection { link: Box::new(stream), lasting: false }).await.is_err()
            {
                return;
            }
        }
    });
    Ok(())
}
