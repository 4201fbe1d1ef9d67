//! One pair of clusters with a proxy between them for all tests of a run that neither kill nor switch anything: each
//! uses topics of its own. What a test puts to the test by force, it starts for itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::cluster::{Cluster, Spec};
use super::proxy::{Proxy, ProxySpec};

/// The shared rig. Topics are teed asynchronously, `sync-*` synchronously, `off-*` not at all. It ends with the process.
pub struct Shared {
    pub proxy: Proxy,
    pub east: Cluster,
    pub west: Cluster,
}

pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let [east, west] = Cluster::start_all([Spec::new("east"), Spec::new("west")]);
        let mut spec = ProxySpec::new(&east, &west, "async");
        for mode in ["sync", "off"] {
            spec.more += &format!("\n[[tee.override]]\nmatch = [\"{mode}-*\"]\nmode = \"{mode}\"\n");
        }
        Shared { proxy: Proxy::start(spec), east, west }
    })
}

/// A topic name that no other test of this process has.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How often to repeat: `short` in `make test`, `full` in `make soak`, which runs the same code.
pub fn repetitions(short: usize, full: usize) -> usize {
    if std::env::var_os("SOAK").is_some() { full } else { short }
}
