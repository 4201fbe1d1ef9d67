//! A way to a broker that takes time: what goes in comes out later, in both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Forwards connections to a port on this machine. Lives until the test's process ends.
pub struct Distance {
    port: u16,
    target: Arc<AtomicU16>,
    /// Milliseconds.
    one_way: Arc<AtomicU64>,
}

impl Distance {
    /// `one_way`: how long every byte is under way.
    pub fn new(one_way: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let target = Arc::new(AtomicU16::new(0));
        let there = target.clone();
        let millis = Arc::new(AtomicU64::new(one_way.as_millis() as u64));
        let takes = millis.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", there.load(Ordering::Acquire))) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let _ = from.set_nodelay(true);
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    carry(from, to, takes.clone());
                }
            }
        });
        Self { port, target, one_way: millis }
    }

    /// Where the way begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How long every byte is under way from now on.
    pub fn takes(&self, one_way: Duration) {
        self.one_way.store(one_way.as_millis() as u64, Ordering::Release);
    }

    /// Where it leads.
    pub fn leads_to(&self, port: u16) {
        self.target.store(port, Ordering::Release);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, takes: Arc<AtomicU64>) {
    let (under_way, arriving) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (left, bytes) in arriving {
            let one_way = Duration::from_millis(takes.load(Ordering::Acquire));
            thread::sleep((left + one_way).saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if under_way.send((Instant::now(), buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    });
}
