//! A proxy between a client and libvirtd. A test can break its connection without breaking a
//! libvirtd that others use.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const LIBVIRTD: &str = "/run/libvirt/libvirt-sock";

pub struct Proxy {
    pub socket: PathBuf,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    hung: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Proxy {
    pub fn start(socket: &Path) -> Self {
        let proxy =
            Self { socket: socket.to_owned(), streams: Arc::default(), hung: Arc::default() };
        proxy.listen();
        proxy
    }

    /// Accepts until [`Self::cut`].
    pub fn listen(&self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (streams, socket, hung) =
            (Arc::clone(&self.streams), self.socket.clone(), Arc::clone(&self.hung));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !socket.exists() {
                    return;
                }
                let server = UnixStream::connect(LIBVIRTD).unwrap();
                let hangs = Arc::new(AtomicBool::new(false));
                hung.lock().unwrap().push(Arc::clone(&hangs));
                streams
                    .lock()
                    .unwrap()
                    .extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                forward(
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    Arc::clone(&hangs),
                );
                forward(server, client, hangs);
            }
        });
    }

    /// Nothing gets through on the connections that are there, for ever; new ones work.
    pub fn hang(&self) {
        for hangs in self.hung.lock().unwrap().drain(..) {
            hangs.store(true, Ordering::Relaxed);
        }
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

/// Bytes that arrive while it hangs are lost, as with a daemon that reads and never answers.
fn forward(mut from: UnixStream, mut to: UnixStream, hung: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if !hung.load(Ordering::Relaxed) && to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
