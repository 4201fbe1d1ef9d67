//! Waiting for a condition with a deadline: the only way this rig lets time pass.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Asks `probe` until it gives a value. Panics with `what` and the last reason given after `deadline`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > deadline => {
                panic!("waited {:.1} s for {what}: {reason}", start.elapsed().as_secs_f64())
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Waits until `condition` holds. Panics with `what` after `deadline`.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || if condition() { Ok(()) } else { Err("it does not hold".into()) });
}
