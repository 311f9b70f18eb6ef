//! Serves `GET /metrics` for Prometheus and `GET /healthz` for health checks. It has no other paths
//! and tells no secrets. The number of connections is bounded, and each has a deadline, so a
//! stranger can't use up the process.

use crate::config::MetricsSettings;
use crate::failure::Failure;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Metrics;

/// The number of connections that are answered at the same time.
const CONNECTIONS: usize = 16;
/// The longest time of a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a failed accept. Usually the process has no free file handle then.
const PAUSE: Duration = Duration::from_millis(200);

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on the address and answers from now on.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> io::Result<Server> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Server { address, task: tokio::spawn(accept(listener, metrics)) })
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed. If it were, no connection could be answered.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = metrics.clone();
                tokio::spawn(async move {
                    // A client that left or took too long is not our error.
                    let _ = timeout(PATIENCE, answer(stream, metrics)).await;
                    drop(place);
                });
            }
            Err(why) => {
                tracing::warn!(
                    error = &why as &dyn std::error::Error,
                    "could not accept a connection for metrics"
                );
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, metrics: Metrics) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &metrics);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // A kept connection would take the place of another client, because scrapes are seconds apart.
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    connection.serve_connection(TokioIo::new(stream), service).await
}

fn respond(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, text) = match (path, method) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, metrics.text()),
        ("/healthz", &Method::GET | &Method::HEAD) => (StatusCode::OK, "ok\n".to_owned()),
        ("/metrics" | "/healthz", _) => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Serves metrics if the configuration has an address. Another program may use the default address,
/// so a failure there stops nothing.
pub async fn listen(settings: MetricsSettings) -> Result<(Metrics, Option<Server>), Failure> {
    let Some(address) = settings.listen else { return Ok((Metrics::off(), None)) };
    let metrics = Metrics::new().map_err(Failure::failed)?;
    match serve(address, metrics.clone()).await {
        Ok(server) => {
            tracing::info!("metrics are at http://{}/metrics", server.address);
            Ok((metrics, Some(server)))
        }
        Err(why) if settings.explicit => Err(Failure::Usage(format!(
            "metrics.listen: agentvm can't listen on {address}: {why}; set another address, or off"
        ))),
        Err(why) => {
            tracing::warn!(
                "there are no metrics: agentvm can't listen on {address}: {why}; set \
                 metrics.listen (--metrics-listen) to another address, or to off"
            );
            Ok((Metrics::off(), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served_and_nothing_else() {
        let metrics = Metrics::new().unwrap();
        metrics.run_ended("ns/pool", "Completed", None);
        let server = serve("127.0.0.1:0".parse().unwrap(), metrics).await.unwrap();
        let text = ask(server.address, "GET /metrics").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(
            text.contains("agent_execution_total{pool_id=\"ns/pool\",status=\"Completed\"} 1"),
            "{text}"
        );
        assert!(ask(server.address, "GET /healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(ask(server.address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(ask(server.address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
        let taken = serve(server.address, Metrics::off()).await;
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn idle_connections_do_not_keep_others_out() {
        let server = serve("127.0.0.1:0".parse().unwrap(), Metrics::off()).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS - 1 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        assert!(ask(server.address, "GET /healthz").await.ends_with("ok\n"));
    }
}
