//! What the figures were measured on.

use std::fs;

use procfs::{CpuInfo, Current};

use crate::support::broker::SharedBroker;

/// One line.
pub async fn describe() -> String {
    let processors = CpuInfo::current().unwrap();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let broker = SharedBroker::ctl(&["version"]).await;
    format!(
        "{} × {}, Linux {}, RabbitMQ {} on the same machine.",
        processors.num_cores(),
        processors.model_name(0).unwrap_or("unknown processor"),
        kernel.trim(),
        broker.trim(),
    )
}
