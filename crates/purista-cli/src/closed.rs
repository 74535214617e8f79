//! Whether somebody reads standard output: `purista tail | head -1` ends also when no second message comes.

use std::future::pending;

use tokio::sync::oneshot;

/// Returns when standard output is a pipe whose other end was closed, or a terminal that is gone.
pub(crate) async fn stdout_is_closed() {
    let (sender, closed) = oneshot::channel();
    // It ends with the process.
    std::thread::spawn(move || {
        if wait() {
            let _ended = sender.send(());
        }
    });
    if closed.await.is_err() {
        pending().await
    }
}

#[cfg(unix)]
fn wait() -> bool {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
    };

    let stdout = std::io::stdout();
    loop {
        // Errors are told without being asked for.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            Ok(_) => return !watched[0].revents().is_empty(),
            Err(_) => return false,
        }
    }
}

/// The next message tells it.
#[cfg(not(unix))]
fn wait() -> bool {
    false
}
