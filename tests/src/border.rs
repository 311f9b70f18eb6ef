//! The border between an operator and its API server, where a test makes one request go wrong.
//!
//! A request is carried out and its answer is lost, or it never arrives. The API server behind the
//! border is a real one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use agentvm_core::run::{is_finished, open_attempt};
use agentvm_crds::AgentRun;
use agentvm_operator::api::Wire;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Method, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use kube::client::Body;
use serde_json::json;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Layer, Service};

/// A request of an operator, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// The status of a run that waits.
    Wait,
    /// The status of a run with an open attempt.
    Claim,
    /// The status of a run whose attempt was taken back.
    Unclaim,
    /// The status of a run that is over.
    Finish,
    /// A live read of a run.
    LiveRead,
    DeleteRun,
    Event,
    PoolStatus,
    GoldenStatus,
    Secret,
    ConfigMap,
    /// A list of one of our kinds, by its plural.
    List(&'static str),
    /// A watch of one of our kinds, by its plural.
    Watch(&'static str),
    Other,
}

/// The answer that the operator gets in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// The connection breaks.
    Cut,
    /// There is no answer at all.
    Silence,
    /// A stream that says that the version is too old.
    Expired,
}

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The API server carries the request out, and then the answer is another one.
    Done(Answer),
    /// The request does not get to the API server.
    Refused(Answer),
}

/// Faults of an operator's requests.
#[derive(Clone, Debug, Default)]
pub struct Border(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    planned: Vec<(Request, Mishap)>,
    happened: usize,
    seen: Vec<Request>,
    /// No request gets through.
    cut: bool,
    /// Ends the watches that are open.
    watches: CancellationToken,
}

impl Border {
    /// The next request of this meaning goes wrong. The plan of a second one waits for the first.
    pub fn plan(&self, request: Request, mishap: Mishap) {
        self.state().planned.push((request, mishap));
    }

    /// Whether all planned faults have happened.
    pub fn all_happened(&self) -> bool {
        self.state().planned.is_empty()
    }

    /// The number of faults that have happened.
    pub fn happened(&self) -> usize {
        self.state().happened
    }

    /// The meanings of all requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.state().seen.clone()
    }

    /// Cuts the operator off from the API server, or connects it again. Open watches go on.
    pub fn cut(&self, cut: bool) {
        self.state().cut = cut;
    }

    /// Ends all watches that are open; the operator begins them again.
    pub fn cut_watches(&self) {
        std::mem::take(&mut self.state().watches).cancel();
    }

    fn meet(&self, request: Request) -> (Option<Mishap>, CancellationToken) {
        let mut state = self.state();
        state.seen.push(request);
        let position = state.planned.iter().position(|(planned, _)| *planned == request);
        let mishap = position.map(|n| state.planned.remove(n).1);
        state.happened += usize::from(mishap.is_some());
        (mishap, state.watches.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer<Wire> for Border {
    type Service = Crossing;

    fn layer(&self, inner: Wire) -> Crossing {
        Crossing { inner, border: self.clone() }
    }
}

/// The way across the border.
#[allow(missing_debug_implementations, reason = "kube's stack has none")]
pub struct Crossing {
    inner: Wire,
    border: Border,
}

type Answered = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl Service<http::Request<Body>> for Crossing {
    type Response = Answered;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answered, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if self.border.state().cut {
            return Box::pin(std::future::ready(Err("the border is closed".into())));
        }
        let meaning = meaning(&request);
        let (mishap, watches) = self.border.meet(meaning);
        let carried_out = match mishap {
            Some(Mishap::Refused(_)) => None,
            Some(Mishap::Done(_)) | None => Some(self.inner.call(request)),
        };
        Box::pin(async move {
            let answer = match carried_out {
                Some(answer) => Some(answer.await?),
                None => None,
            };
            match (mishap, answer) {
                (None, Some(answer)) => Ok(passed(answer, meaning, watches)),
                (Some(Mishap::Done(wrong) | Mishap::Refused(wrong)), _) => wrong.given().await,
                (None, None) => Err("a request without a fault is carried out".into()),
            }
        })
    }
}

/// A watch ends when the test cuts it; everything else passes as it is.
fn passed(
    answer: Response<Box<kube::client::DynBody>>,
    meaning: Request,
    watches: CancellationToken,
) -> Answered {
    answer.map(|body| {
        if matches!(meaning, Request::Watch(_)) {
            let frames = BodyStream::new(body).take_until(watches.cancelled_owned());
            StreamBody::new(frames).boxed_unsync()
        } else {
            body.boxed_unsync()
        }
    })
}

impl Answer {
    async fn given(self) -> Result<Answered, BoxError> {
        let whole = |text: String| Full::new(Bytes::from(text)).map_err(Into::into).boxed_unsync();
        match self {
            Self::Cut => Err("the connection was cut by the test".into()),
            Self::Silence => std::future::pending().await,
            Self::Status(code) => Ok(Response::builder().status(code).body(whole(status(code)))?),
            Self::Expired => {
                let event = format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status(410));
                Ok(Response::builder().status(200).body(whole(event))?)
            }
        }
    }
}

fn status(code: u16) -> String {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "planned by a test", "reason": reason, "code": code,
    })
    .to_string()
}

fn meaning(request: &http::Request<Body>) -> Request {
    let (method, path) = (request.method(), request.uri().path());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let after =
        |plural: &str| parts.iter().position(|part| *part == plural).map(|n| parts.len() - n);
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let plural = ["agentruns", "agentvmpools", "goldensnapshots"]
        .into_iter()
        .find_map(|plural| Some((plural, after(plural)?)));
    match (method, plural) {
        (&Method::GET, Some((plural, 1))) if watches => Request::Watch(plural),
        (&Method::GET, Some((plural, 1))) => Request::List(plural),
        (&Method::GET, Some(("agentruns", 2))) => Request::LiveRead,
        (&Method::DELETE, Some(("agentruns", _))) => Request::DeleteRun,
        (&Method::PUT, Some(("agentruns", 3))) => of_run(request.body()),
        (&Method::PUT, Some(("agentvmpools", 3))) => Request::PoolStatus,
        (&Method::PUT, Some(("goldensnapshots", 3))) => Request::GoldenStatus,
        (&Method::POST, None) if after("events") == Some(1) => Request::Event,
        (&Method::GET, None) if after("secrets").is_some() => Request::Secret,
        (&Method::GET, None) if after("configmaps").is_some() => Request::ConfigMap,
        _ => Request::Other,
    }
}

/// The meaning of a run's status.
fn of_run(body: &Body) -> Request {
    let mut copy = body.try_clone().unwrap_or_else(Body::empty);
    let polled = copy.frame();
    let frame = futures::FutureExt::now_or_never(polled);
    let bytes = frame.flatten().and_then(Result::ok).and_then(|frame| frame.into_data().ok());
    let Some(run) = bytes.and_then(|bytes| serde_json::from_slice::<AgentRun>(&bytes).ok()) else {
        return Request::Other;
    };
    let status = run.status.as_ref();
    if is_finished(status) {
        Request::Finish
    } else if open_attempt(status).is_some() {
        Request::Claim
    } else if status.is_some_and(|status| !status.attempts.is_empty()) {
        Request::Unclaim
    } else {
        Request::Wait
    }
}
