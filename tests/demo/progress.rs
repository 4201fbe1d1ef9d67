//! The live line: rate, counts, who is active.

use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::support::load::Load;
use crate::support::proxy::Proxy;

const EVERY: Duration = Duration::from_millis(500);

/// Prints a line every half second until it is dropped.
pub struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    pub fn start<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, proxy: &'env Proxy, load: &'env Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        scope.spawn(move || tick(proxy, load, &seen));
        Self { stop }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn tick(proxy: &Proxy, load: &Load, stop: &AtomicBool) {
    let (start, mut then, mut before) = (Instant::now(), Instant::now(), load.progress());
    while !stop.load(Ordering::Acquire) {
        thread::sleep(EVERY);
        let (now, progress) = (Instant::now(), load.progress());
        let rate = (progress.acknowledged - before.acknowledged) as f64 / (now - then).as_secs_f64();
        (then, before) = (now, progress);
        let line = format!(
            "{:6.1} s  {rate:6.0}/s  acknowledged {:8}  consumed {:8}  {}",
            start.elapsed().as_secs_f64(),
            progress.acknowledged,
            progress.consumed,
            roles(proxy)
        );
        // On a terminal one line lives in place; in a file each is kept.
        if stdout().is_terminal() {
            print!("\r{line}\x1b[K")
        } else {
            println!("{line}")
        }
        let _ = stdout().flush();
    }
}

fn roles(proxy: &Proxy) -> String {
    match proxy.get("/v1/status") {
        Ok((200, status)) => {
            let text = |field: &str| status[field].as_str().unwrap_or("?").to_owned();
            let in_sync = if status["standby_in_sync"] == true { "in sync" } else { "not in sync" };
            format!("active {}, standby {in_sync}, {}", text("active"), text("phase"))
        }
        _ => "active ?".into(),
    }
}
