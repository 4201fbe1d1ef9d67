//! Free TCP ports that stay free: picked below the range that the kernel gives to outgoing connections, in blocks that
//! each rig process holds by a listener on the block's first port, so that parallel runs do not meet.

use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 11_000;
/// Where Linux starts its ephemeral ports.
const END: u16 = 32_700;
const BLOCK: u16 = 64;

struct Blocks {
    /// Bound for as long as this process lives.
    held: Vec<TcpListener>,
    next: u16,
    end: u16,
}

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { held: Vec::new(), next: 0, end: 0 });

/// The first of `count` consecutive free ports, never handed out again in this process.
pub fn consecutive(count: u16) -> u16 {
    assert!(count > 0 && count < BLOCK, "at most {} ports in a row", BLOCK - 1);
    let mut blocks = BLOCKS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loop {
        while blocks.next + count <= blocks.end {
            let first = blocks.next;
            match (first..first + count).find(|&port| !is_free(port)) {
                Some(taken) => blocks.next = taken + 1,
                None => {
                    blocks.next = first + count;
                    return first;
                }
            }
        }
        blocks.take_block();
    }
}

pub fn one() -> u16 {
    consecutive(1)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

impl Blocks {
    fn take_block(&mut self) {
        let blocks = (END - FIRST) / BLOCK;
        // Processes that start together begin their search at different places.
        let offset = (std::process::id() % u32::from(blocks)) as u16;
        for n in 0..blocks {
            let start = FIRST + (offset + n) % blocks * BLOCK;
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", start)) {
                self.held.push(listener);
                (self.next, self.end) = (start + 1, start + BLOCK);
                return;
            }
        }
        panic!("no free block of ports between {FIRST} and {END}");
    }
}
