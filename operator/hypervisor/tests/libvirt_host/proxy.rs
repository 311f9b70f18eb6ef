//! Stands between a client and libvirtd, so that a test can break a connection without breaking anybody else's libvirtd.

use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const LIBVIRTD: &str = "/run/libvirt/libvirt-sock";

pub struct Proxy {
    pub socket: PathBuf,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    pub fn start(socket: &Path) -> Self {
        let proxy = Self { socket: socket.to_owned(), streams: Arc::default() };
        proxy.listen();
        proxy
    }

    /// Accepts until [`Self::cut`].
    pub fn listen(&self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (streams, socket) = (Arc::clone(&self.streams), self.socket.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !socket.exists() {
                    return;
                }
                let server = UnixStream::connect(LIBVIRTD).unwrap();
                streams.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                forward(client.try_clone().unwrap(), server.try_clone().unwrap());
                forward(server, client);
            }
        });
    }

    /// Ends all connections and listens no more.
    pub fn cut(&self) {
        let last = UnixStream::connect(&self.socket);
        std::fs::remove_file(&self.socket).unwrap();
        drop(last);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn forward(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
