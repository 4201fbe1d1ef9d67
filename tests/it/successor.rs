//! A proxy that is started beside another one takes over: the one before ends and says why, and nothing that it still has
//! under way lands in the state.

use std::time::Duration;

use crate::rig::{PATIENCE, Rig, assert_done};
use crate::support::proxy::{Proxy, ProxySpec};
use crate::support::wait::wait_until;

const TOPIC: &str = "inherited";

#[test]
fn a_second_proxy_takes_over_and_the_first_ends() {
    let mut rig = Rig::start_with("sync", |east, _| east.create_topic(TOPIC, 3, &[]));
    rig.proxy.wait_in_sync(PATIENCE);
    // As if it hung while the other one was started, and came back.
    rig.proxy.signal("STOP");
    let successor = Proxy::start(ProxySpec::new(&rig.east, &rig.west, "sync"));
    successor.wait_in_sync(PATIENCE);
    assert_done(&successor.switchover());
    rig.proxy.signal("CONT");
    wait_until("the first proxy to end", PATIENCE, || !rig.proxy.is_alive());
    let log = rig.proxy.log();
    assert!(log.contains("another process has taken over the state"), "{log}");
    let status = successor.wait_in_sync(PATIENCE);
    assert_eq!((&status["active"], &status["generation"]), (&"west".into(), &1.into()), "{status:#}");
    assert!(successor.is_alive());

    // And back: who comes last counts, not who was first.
    rig.proxy.restart();
    wait_until("the second proxy to end", Duration::from_secs(60), || !successor.is_alive());
    let status = rig.proxy.wait_in_sync(PATIENCE);
    assert_eq!((&status["active"], &status["generation"]), (&"west".into(), &1.into()), "{status:#}");
}
