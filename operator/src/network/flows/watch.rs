//! The task that listens to the host's log, and the task that reports.

use std::{sync::Arc, time::Duration};

use agentvm_core::network::Flow;
use agentvm_types::report;
use kube::Resource;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    News,
    log_lines::LogLines,
    recorder::{FlowRecorder, Noted},
};
use crate::controllers::Context;

/// Why an Event about a run was written.
const DENIED: &str = "NetworkDenied";
/// The interval of the check for due Events.
const TELL: Duration = Duration::from_millis(500);
/// The interval at which the counters of current runs are read: each reading costs the host a
/// little.
const METER: Duration = Duration::from_secs(15);

/// Listens and reports for ever. Listening never waits for the API server.
pub async fn watch(cx: Arc<Context>, flows: mpsc::Receiver<Flow>) {
    let recorder = &cx.machines.config().flow_recorder;
    tokio::join!(listen(&cx, recorder, flows), tell(&cx, recorder), meter(&cx, recorder));
}

async fn listen(cx: &Context, recorder: &FlowRecorder, mut flows: mpsc::Receiver<Flow>) {
    let mut lines = LogLines::default();
    while let Some(flow) = flows.recv().await {
        let (machine, verdict, target) = (&flow.machine, flow.verdict.as_str(), flow.target);
        match recorder.note(&flow) {
            Noted::First(owner) => {
                tracing::info!(run = owner.run, machine = %machine, verdict, "network: {target}");
            }
            Noted::Again => {}
            Noted::Nobodys if target.is_chatter() => {}
            Noted::Nobodys => match lines.may_write(cx.clock.instant().into_std()) {
                Some(0) => tracing::info!(machine = %machine, verdict, "network: {target}"),
                Some(more) => {
                    tracing::info!(machine = %machine, verdict,
                        "network: {target}; {more} more dropped");
                }
                None => {}
            },
        }
    }
}

async fn tell(cx: &Context, recorder: &FlowRecorder) {
    let mut tick = ticks(TELL);
    loop {
        tick.tick().await;
        for news in recorder.news(cx.clock.instant().into_std()) {
            event(cx, &news).await;
        }
    }
}

async fn event(cx: &Context, news: &News) {
    let found = cx.caches.runs.find(|run| run.meta().uid.as_deref() == Some(news.run_uid.as_str()));
    let Some(about) = found.and_then(|run| run.0.as_ref().ok().map(|run| run.object_ref(&())))
    else {
        return;
    };
    cx.recorder.warning(&about, DENIED, "Run", &news.text).await;
}

async fn meter(cx: &Context, recorder: &FlowRecorder) {
    let mut tick = ticks(METER);
    loop {
        tick.tick().await;
        for machine in recorder.machines() {
            match cx.machines.host().traffic(&machine).await {
                Ok(traffic) => recorder.meter(&machine, traffic, &cx.metrics),
                Err(why) => {
                    tracing::debug!(machine = %machine, "its traffic could not be read: {}",
                        report(&why));
                }
            }
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
