//! Ends the demo early, cleanly: on Ctrl-C, on SIGTERM or SIGHUP, and when it takes longer than it may.

use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::support::{process, temp};

/// What shells say for a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Watches in a thread of its own from here on.
pub fn on_signal_or_after(limit: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    thread::spawn(move || {
        let (reason, status) = runtime.block_on(async {
            // A script's background job starts with SIGINT ignored; these handlers win over that too.
            let mut interrupt = signal(SignalKind::interrupt()).expect("a handler");
            let mut terminate = signal(SignalKind::terminate()).expect("a handler");
            let mut hangup = signal(SignalKind::hangup()).expect("a handler");
            tokio::select! {
                _ = interrupt.recv() => ("interrupted".to_owned(), INTERRUPTED),
                _ = terminate.recv() => ("terminated".to_owned(), INTERRUPTED),
                _ = hangup.recv() => ("the terminal is gone".to_owned(), INTERRUPTED),
                () = tokio::time::sleep(limit) => (format!("not done after {} s", limit.as_secs()), 1),
            }
        });
        // A second time after the first: the main thread may just have been starting or writing something.
        for _ in 0..2 {
            process::kill_all();
            temp::remove_all();
        }
        eprintln!("\n{reason}; everything that was started is gone");
        std::process::exit(status);
    });
}
