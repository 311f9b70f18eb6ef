//! The servers of the test internet. One TCP server speaks a line protocol and HTTP on every port.
//! DNS answers fixed names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::{DNS, NODE, NOT_NODE, OTHER_DNS, PORTS, PRIVATE, SSH, WEB};

/// The interval at which a server checks whether it should end.
const LOOK: Duration = Duration::from_millis(200);

/// The pages of the HTTP server, by path: media type and content.
#[derive(Clone, Default)]
pub struct Pages(Arc<Mutex<BTreeMap<String, Page>>>);
type Page = (String, Vec<u8>);

impl Pages {
    pub fn put(&self, path: &str, media_type: &str, body: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().insert(path.to_owned(), (media_type.to_owned(), body.into()));
    }

    fn answer(&self, path: &str) -> Vec<u8> {
        let pages = self.0.lock().unwrap();
        let (status, kind, body) = match pages.get(path) {
            Some((kind, body)) => ("200 OK", kind.as_str(), body.as_slice()),
            None => ("404 Not Found", "text/plain", &b"no such page\n"[..]),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: \
                close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

/// Starts them in the network namespace of the calling thread.
pub fn all(pages: &Pages, stop: &Arc<AtomicBool>) {
    for port in PORTS.into_iter().filter(|port| *port != 22) {
        // Both families.
        tcp(TcpListener::bind(("::", port)).unwrap(), pages, stop);
    }
    for address in [DNS, WEB, NODE, NOT_NODE].into_iter().chain(PRIVATE) {
        tcp(TcpListener::bind((address, 22)).unwrap(), pages, stop);
    }
    for address in [DNS, OTHER_DNS] {
        dns_over_tcp(TcpListener::bind((address, 53)).unwrap(), stop);
    }
    // A resolver behind every address, also behind addresses that a machine may not ask.
    for address in [DNS, OTHER_DNS, WEB].into_iter().chain(PRIVATE) {
        let socket = UdpSocket::bind((address, 53)).unwrap();
        udp(socket, stop, answer_to);
    }
    for port in [443, 8080] {
        udp(UdpSocket::bind((WEB, port)).unwrap(), stop, |datagram| Some(datagram.to_vec()));
    }
}

fn tcp(listener: TcpListener, pages: &Pages, stop: &Arc<AtomicBool>) {
    let pages = pages.clone();
    accept(listener, stop, move |stream, stop| {
        let _ = talk(stream, &pages, stop);
    });
}

fn accept(
    listener: TcpListener,
    stop: &Arc<AtomicBool>,
    each: impl Fn(TcpStream, &AtomicBool) + Clone + Send + 'static,
) {
    set_socket_timeout(&listener, Timeout::Recv, Some(LOOK)).unwrap();
    let stop = stop.clone();
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else { continue };
            let (each, stop) = (each.clone(), stop.clone());
            std::thread::spawn(move || each(stream, &stop));
        }
    });
}

/// `who` returns the address that was reached; `get N` returns N bytes; `put N` takes N bytes, then
/// says `done`; `GET` returns a page; any other line is returned.
fn talk(mut stream: TcpStream, pages: &Pages, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(line) = next_line(&mut reader, stop)? {
        let mut words = line.split_whitespace();
        let (verb, argument) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match (verb, argument.parse::<usize>()) {
            // The answer is one write, because the client reads once.
            ("who", _) => stream.write_all(format!("{}\n", stream.local_addr()?).as_bytes())?,
            ("get", Ok(bytes)) => {
                let block = [b'.'; 16 * 1024];
                for at in (0..bytes).step_by(block.len()) {
                    stream.write_all(&block[..block.len().min(bytes - at)])?;
                }
            }
            ("put", Ok(bytes)) => {
                take(&mut reader, bytes, stop)?;
                writeln!(stream, "done")?;
            }
            ("GET" | "HEAD", _) => {
                while next_line(&mut reader, stop)?.is_some_and(|header| !header.trim().is_empty())
                {
                }
                return stream.write_all(&pages.answer(argument));
            }
            _ => stream.write_all(line.as_bytes())?,
        }
    }
    Ok(())
}

/// The next line; `None` at the end.
fn next_line(
    reader: &mut BufReader<TcpStream>,
    stop: &AtomicBool,
) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(_) if line.is_empty() => return Ok(None),
            Ok(_) => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
            Err(error) if again(&error) && !stop.load(Ordering::Relaxed) => {}
            Err(error) => return Err(error),
        }
    }
}

fn take(reader: &mut impl Read, mut bytes: usize, stop: &AtomicBool) -> std::io::Result<()> {
    let mut buffer = vec![0_u8; 64 * 1024];
    while bytes > 0 {
        let room = buffer.len().min(bytes);
        match reader.read(&mut buffer[..room]) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes -= n,
            Err(error) if again(&error) && !stop.load(Ordering::Relaxed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn again(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

fn udp(socket: UdpSocket, stop: &Arc<AtomicBool>, reply: fn(&[u8]) -> Option<Vec<u8>>) {
    socket.set_read_timeout(Some(LOOK)).unwrap();
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if let Some(answer) = reply(&buffer[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

fn dns_over_tcp(listener: TcpListener, stop: &Arc<AtomicBool>) {
    accept(listener, stop, |mut stream, _| {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut length = [0_u8; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            let Some(answer) =
                stream.read_exact(&mut question).ok().and_then(|()| answer_to(&question))
            else {
                return;
            };
            let size = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&size[..], &answer].concat());
        }
    });
}

/// The address of a name in this internet.
fn address_of(name: &str) -> Option<Ipv4Addr> {
    match name {
        "web.test" | "registry.test" => Some(WEB),
        "git.test" => Some(SSH),
        // Clouds do this: the name resolves anywhere, and leads to the metadata service.
        "metadata.google.internal" => Some(PRIVATE[4]),
        // The name of a stranger that leads to an address that no machine may reach.
        "rebound.test" => Some(PRIVATE[0]),
        _ => None,
    }
}

/// A DNS answer: one A record, no record (a name without AAAA), or NXDOMAIN.
fn answer_to(question: &[u8]) -> Option<Vec<u8>> {
    let (mut name, mut at) = (Vec::new(), 12);
    while let Some(length @ 1..) = question.get(at).map(|length| usize::from(*length)) {
        name.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes(question.get(at + 1..at + 3)?.try_into().ok()?);
    let address = address_of(&name.join("."));
    let found = address.filter(|_| kind == 1);
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([
        0x81,
        if address.is_some() { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::from(found.is_some()),
        0,
        0,
        0,
        0,
    ]);
    answer.extend(question.get(12..end)?);
    if let Some(address) = found {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
