//! The client of the operator. Each call has a time limit, and only reads are repeated.
//!
//! kube's own client repeats every request, writes too. A write that was done and then answered
//! with 504 comes back as a conflict then, made by the repetition.
//!
//! ```text
//! call ─► Deadline ─► Retry (reads) ─► border (tests put faults here) ─► kube: TLS, headers, wire
//! ```

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    Method, Request, Response,
    body::{Body as HttpBody, Bytes},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, DynBody, retry::RetryPolicy},
};
use tower::{
    BoxError, Layer, Service,
    buffer::BufferLayer,
    layer::util::Identity,
    retry::{Policy, RetryLayer, backoff::InvalidBackoff},
    util::BoxService,
};

/// The requests that wait for a free connection.
const WAITING: usize = 1024;
/// The first and the longest pause between two tries of a read, and the number of tries after the
/// first. All of them together stay below two seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
const READ_TRIES: u32 = 5;

/// The time limits of calls to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// From the request to the last byte of the answer. For a watch: to the beginning of the
    /// stream, which kube ends when it stays silent.
    pub call: Duration,
}

impl Default for TimeLimits {
    /// A reconcile makes a write and a read after it at the worst, so its slot is free again after
    /// twice this time.
    fn default() -> Self {
        Self { call: Duration::from_secs(15) }
    }
}

/// The stack that kube makes.
pub type Wire = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// The API server did not answer in time. The request may have been carried out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API server did not answer within {0:?}")]
struct Silent(Duration);

/// The pauses between two tries of a read make no sense.
#[derive(Debug, thiserror::Error)]
#[error("the pauses between two tries of a read make no sense")]
struct Pauses(#[source] InvalidBackoff);

/// The client of an operator.
pub fn client(config: Config, limits: TimeLimits) -> Result<Client, kube::Error> {
    client_across(config, limits, &Identity::new())
}

/// The client with another layer between it and the wire.
pub fn client_across<L, B>(
    config: Config,
    limits: TimeLimits,
    border: &L,
) -> Result<Client, kube::Error>
where
    L: Layer<Wire>,
    L::Service: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send,
    <L::Service as Service<Request<Body>>>::Error: Into<BoxError> + Send + Sync,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut config = config;
    config.default_retry = false;
    let policy = RetryPolicy::new(FIRST_PAUSE, LONGEST_PAUSE, READ_TRIES, false)
        .map_err(|why| kube::Error::Service(Box::new(Pauses(why))))?;
    let builder = ClientBuilder::try_from(config)?
        .with_layer(border)
        .with_layer(&BufferLayer::new(WAITING))
        .with_layer(&RetryLayer::new(OnlyReads(policy)))
        .with_layer(&DeadlineLayer(limits));
    Ok(builder.build())
}

/// Repeats reads that an API server was too busy for. A write is never repeated here: its caller
/// looks at the object first.
#[derive(Clone)]
struct OnlyReads(RetryPolicy);

impl<Res> Policy<Request<Body>, Response<Res>, BoxError> for OnlyReads {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<Res>, BoxError>,
    ) -> Option<Self::Future> {
        self.0.retry(request, result)
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        if request.method() != Method::GET {
            return None;
        }
        <RetryPolicy as Policy<Request<Body>, Response<Res>, BoxError>>::clone_request(
            &mut self.0,
            request,
        )
    }
}

#[derive(Clone, Copy)]
struct DeadlineLayer(TimeLimits);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner, limits: self.0 }
    }
}

/// Ends a call that takes too long.
struct Deadline<S> {
    inner: S,
    limits: TimeLimits,
}

impl<S, B> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Full<Bytes>, B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limits.call;
        let streams = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let answer = self.inner.call(request);
        let whole = async move {
            let (parts, body) = answer.await.map_err(Into::into)?.into_parts();
            let body = if streams {
                Either::Right(body)
            } else {
                let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
                Either::Left(Full::new(bytes))
            };
            Ok(Response::from_parts(parts, body))
        };
        Box::pin(async move {
            tokio::time::timeout(limit, whole).await.unwrap_or_else(|_| Err(Silent(limit).into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{ListParams, PostParams},
    };
    use tower::layer::layer_fn;

    use super::*;

    const LIMITS: TimeLimits = TimeLimits { call: Duration::from_millis(200) };

    /// A client whose wire gives this answer and counts the requests; without a status it is
    /// silent.
    fn answering(status: Option<u16>) -> (Client, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = asked.clone();
        let border = layer_fn(move |_: Wire| {
            let counter = counter.clone();
            tower::service_fn(move |_: Request<Body>| {
                counter.fetch_add(1, Ordering::Relaxed);
                async move {
                    let Some(status) = status else {
                        return std::future::pending::<Result<_, BoxError>>().await;
                    };
                    Ok(Response::builder().status(status).body(Body::empty())?)
                }
            })
        });
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        (client_across(config, LIMITS, &border).unwrap(), asked)
    }

    fn maps(client: Client) -> Api<ConfigMap> {
        Api::namespaced(client, "default")
    }

    #[tokio::test]
    async fn a_write_is_sent_once_whatever_the_answer_is() {
        for status in [429, 500, 503, 504] {
            let (client, asked) = answering(Some(status));
            let put =
                maps(client).replace("x", &PostParams::default(), &ConfigMap::default()).await;
            assert!(put.is_err());
            assert_eq!(asked.load(Ordering::Relaxed), 1, "after {status}");
        }
    }

    #[tokio::test]
    async fn a_read_is_repeated_but_not_for_ever() {
        let (client, asked) = answering(Some(503));
        maps(client).get("x").await.unwrap_err();
        let tries = asked.load(Ordering::Relaxed);
        assert!((2..=READ_TRIES + 1).contains(&tries), "{tries}");
        let (client, asked) = answering(Some(500));
        maps(client).get("x").await.unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), 1, "500 is no word about later");
    }

    #[tokio::test]
    async fn a_silent_api_server_ends_every_kind_of_call() {
        let (client, _) = answering(None);
        let api = maps(client);
        let silent = |why: kube::Error| {
            assert!(agentvm_types::report(&why).contains("did not answer"), "{why:?}");
        };
        silent(api.get("x").await.unwrap_err());
        silent(api.list(&ListParams::default()).await.unwrap_err());
        silent(api.replace("x", &PostParams::default(), &ConfigMap::default()).await.unwrap_err());
        silent(api.watch(&kube::api::WatchParams::default(), "0").await.err().unwrap());
    }
}
