//! Moves bytes from one socket to another inside the kernel, by `splice(2)`: the long rest of a frame that nobody looks at is
//! copied neither into this process nor out of it. They go through a pipe, which is borrowed only while it has bytes. Where
//! there is none to be had (another system, no permission, too many in use) the caller reads and writes instead.

use tokio::net::TcpStream;

use super::intake::Broken;

/// What is shorter is read and written: that takes as many system calls, and the copy is cheap.
pub const LEAST: usize = 64 << 10;

#[cfg(target_os = "linux")]
pub use linux::pass;

/// Passes the next `left` bytes on; gives how many of them are left to the caller.
#[cfg(not(target_os = "linux"))]
pub async fn pass(_from: &TcpStream, _to: &TcpStream, left: usize) -> Result<usize, Broken> {
    Ok(left)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::RefCell;
    use std::io::{Error, ErrorKind};
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
    use tokio::io::Interest;

    use super::{Broken, TcpStream};

    /// Bytes that a pipe takes at a time, and its size: that counts a page for each piece, whatever its length.
    const SIZE: usize = 1 << 20;
    /// Pipes that a thread has open at most, each with two descriptors: a connection whose reader is slow holds one.
    pub const OPEN: usize = 16;
    /// Of those, what is kept for the next frames.
    const SPARE: usize = 4;

    thread_local! {
        static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes { spare: Vec::new(), open: 0, refused: false }) };
    }

    struct Pipes {
        spare: Vec<Pipe>,
        /// Lent or spare.
        open: usize,
        /// The system does not do it here.
        refused: bool,
    }

    struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
    }

    /// A pipe on loan. One that still has bytes when it comes back is closed.
    struct Lent {
        pipe: Option<Pipe>,
        held: usize,
    }

    impl Lent {
        fn borrow() -> Option<Self> {
            PIPES.with_borrow_mut(|pipes| {
                if pipes.refused {
                    return None;
                }
                if let Some(pipe) = pipes.spare.pop() {
                    return Some(Lent { pipe: Some(pipe), held: 0 });
                }
                if pipes.open >= OPEN {
                    return None;
                }
                let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                fcntl_setpipe_size(&write, SIZE).ok()?;
                pipes.open += 1;
                Some(Lent { pipe: Some(Pipe { read, write }), held: 0 })
            })
        }

        /// Takes what a socket has.
        fn fill(&mut self, from: &TcpStream, most: usize) -> std::io::Result<usize> {
            let pipe = self.pipe.as_ref().ok_or(ErrorKind::NotConnected)?;
            let n = splice(from, None, &pipe.write, None, most.min(SIZE), SpliceFlags::NONBLOCK)?;
            self.held += n;
            Ok(n)
        }

        /// Gives what the other socket takes. `more`: more follows, so that nothing leaves in a small packet.
        fn empty(&mut self, to: &TcpStream, more: bool) -> std::io::Result<()> {
            let pipe = self.pipe.as_ref().ok_or(ErrorKind::NotConnected)?;
            let mut flags = SpliceFlags::NONBLOCK;
            flags.set(SpliceFlags::MORE, more);
            let n = splice(&pipe.read, None, to, None, self.held, flags)?;
            self.held -= n;
            if n == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
        }
    }

    impl Drop for Lent {
        fn drop(&mut self) {
            PIPES.with_borrow_mut(|pipes| match self.pipe.take() {
                Some(pipe) if self.held == 0 && pipes.spare.len() < SPARE => pipes.spare.push(pipe),
                _ => pipes.open = pipes.open.saturating_sub(1),
            });
        }
    }

    /// Passes the next `left` bytes on; gives how many of them are left to the caller.
    pub async fn pass(from: &TcpStream, to: &TcpStream, mut left: usize) -> Result<usize, Broken> {
        while left > 0 {
            // Without a pipe: it may take long.
            from.readable().await.map_err(Broken::From)?;
            let Some(mut pipe) = Lent::borrow() else { return Ok(left) };
            match from.try_io(Interest::READABLE, || pipe.fill(from, left)) {
                Ok(0) => return Err(Broken::Closed),
                Ok(n) => left -= n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
                Err(e) if is_refused(&e) => {
                    PIPES.with_borrow_mut(|pipes| pipes.refused = true);
                    return Ok(left);
                }
                Err(e) => return Err(Broken::From(e)),
            }
            while pipe.held > 0 {
                to.async_io(Interest::WRITABLE, || pipe.empty(to, left > 0)).await.map_err(Broken::To)?;
            }
        }
        Ok(0)
    }

    fn is_refused(error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied)
    }

    /// Pipes of this thread that are on loan.
    #[cfg(test)]
    pub fn lent() -> usize {
        PIPES.with_borrow(|pipes| pipes.open - pipes.spare.len())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::linux::{OPEN, lent};
    use super::*;

    const MB: usize = 1 << 20;
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Two ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    /// No two places of it look alike.
    fn bytes(size: usize) -> Vec<u8> {
        (0..size as u32).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_le_bytes()).take(size).collect()
    }

    async fn read(from: &mut TcpStream, size: usize) -> Vec<u8> {
        let mut got = vec![0; size];
        from.read_exact(&mut got).await.unwrap();
        got
    }

    #[tokio::test]
    async fn bytes_arrive_exactly_and_what_lies_behind_them_stays() {
        for piece in [usize::MAX, 100_003, 1_000] {
            let ((mut client, from), (to, mut broker)) = (pair().await, pair().await);
            let sent = bytes(5 * MB + 77);
            let expected = sent.clone();
            let writer = tokio::spawn(async move {
                for part in sent.chunks(piece.min(sent.len())) {
                    client.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client
            });
            let reader = tokio::spawn(async move { read(&mut broker, 5 * MB).await });
            assert!(matches!(pass(&from, &to, 5 * MB).await, Ok(0)));
            assert!(reader.await.unwrap() == expected[..5 * MB], "{piece} at a time");
            writer.await.unwrap();
            let mut rest = [0; 100];
            let n = { from }.read(&mut rest).await.unwrap();
            assert_eq!(rest[..n], expected[5 * MB..]);
        }
    }

    #[tokio::test]
    async fn who_reads_late_gets_everything_and_pipes_come_back_empty() {
        let ((mut client, from), (to, mut broker)) = (pair().await, pair().await);
        let sent = bytes(32 * MB);
        let expected = sent.clone();
        let writer = tokio::spawn(async move { client.write_all(&sent).await.map(|()| client) });
        let passing = tokio::spawn(async move { (pass(&from, &to, 32 * MB).await, from, to) });
        // Until nothing fits into the sockets any more: it holds a pipe then.
        let full = async {
            while lent() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, full).await.unwrap();
        assert!(read(&mut broker, 32 * MB).await == expected);
        assert!(matches!(passing.await.unwrap().0, Ok(0)));
        writer.await.unwrap().unwrap();
        assert_eq!(lent(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_bytes_holds_no_pipe() {
        let ((mut client, from), (to, mut broker)) = (pair().await, pair().await);
        client.write_all(&bytes(1000)).await.unwrap();
        assert!(timeout(Duration::from_millis(50), pass(&from, &to, MB)).await.is_err());
        assert_eq!(lent(), 0);
        assert!(read(&mut broker, 1000).await == bytes(1000));
    }

    #[tokio::test]
    async fn a_sender_that_dies_in_the_middle_is_told_of_after_what_it_sent() {
        let ((mut client, from), (to, mut broker)) = (pair().await, pair().await);
        client.write_all(&bytes(100_000)).await.unwrap();
        drop(client);
        assert!(matches!(pass(&from, &to, MB).await, Err(Broken::Closed)));
        assert!(read(&mut broker, 100_000).await == bytes(100_000));
    }

    #[tokio::test]
    async fn a_pipe_with_bytes_that_nobody_takes_is_not_used_again() {
        for dies in [true, false] {
            let ((mut client, from), (to, broker)) = (pair().await, pair().await);
            let writer = tokio::spawn(async move { client.write_all(&bytes(32 * MB)).await });
            if dies {
                // It has not read all that came: its end is a reset.
                let death = async {
                    broker.readable().await.unwrap();
                    drop(broker);
                };
                let (passed, ()) = tokio::join!(pass(&from, &to, 32 * MB), death);
                assert!(matches!(passed, Err(Broken::To(_))));
            } else {
                assert!(timeout(Duration::from_millis(300), pass(&from, &to, 32 * MB)).await.is_err(), "nobody reads");
            }
            assert_eq!(lent(), 0);
            let ((mut client, from), (to, mut broker)) = (pair().await, pair().await);
            client.write_all(&[7; 1000]).await.unwrap();
            assert!(matches!(pass(&from, &to, 1000).await, Ok(0)));
            assert_eq!(read(&mut broker, 1000).await, [7; 1000]);
            writer.abort();
        }
    }

    #[tokio::test]
    async fn with_all_pipes_on_loan_the_bytes_are_left_to_the_caller() {
        let ((mut client, from), (to, _broker), mut stuck) = (pair().await, pair().await, Vec::new());
        for _ in 0..OPEN {
            let ((mut client, from), (to, broker)) = (pair().await, pair().await);
            tokio::spawn(async move { client.write_all(&vec![0; 32 * MB]).await });
            tokio::spawn(async move { pass(&from, &to, 32 * MB).await });
            stuck.push(broker);
        }
        let full = async {
            while lent() < OPEN {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, full).await.unwrap();
        client.write_all(&[7; 1000]).await.unwrap();
        assert!(matches!(pass(&from, &to, 1000).await, Ok(1000)));
        drop(stuck);
        let back = async {
            while lent() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, back).await.unwrap();
    }
}
