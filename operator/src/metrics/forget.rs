//! Removes the series of an object that is gone. The metrics themselves list the series, so no
//! second list has to be kept.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::families::Families;

impl Families {
    pub fn keep_pools(&self, exists: &dyn Fn(&str) -> bool) {
        keep(&self.boot, exists);
        keep(&self.pool_size, exists);
        keep(&self.acquire, exists);
        keep(&self.reset, exists);
        keep(&self.connections, exists);
        keep(&self.executions, exists);
        keep(&self.execution, exists);
    }

    pub fn forget_machine(&self, name: &str) {
        // A missing series is fine.
        let _ = self.unshared.remove_label_values(&[name]);
        let _ = self.memory.remove_label_values(&[name]);
    }

    /// Separate from the other series: these counters continue from run to run while the machine
    /// exists.
    pub fn forget_traffic(&self, name: &str) {
        let _ = self.received.remove_label_values(&[name]);
        let _ = self.sent.remove_label_values(&[name]);
    }
}

fn keep<T: MetricVecBuilder>(all: &MetricVec<T>, exists: &dyn Fn(&str) -> bool) {
    for family in all.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if labels.get("pool_id").is_some_and(|pool| !exists(pool)) {
                let _ = all.remove(&labels);
            }
        }
    }
}
