//! The web page: its files, which are in the program, and the figures that it asks for each second.

use std::time::SystemTime;

use hyper::StatusCode;
use serde::Serialize;

use super::site::Page;
use crate::sessions::{SessionSnapshot, Totals};
use crate::watched::{Watched, disk_limit};

/// The page's files, and what it asks for; none where there is nothing.
pub(super) fn page(path: &str, watched: &Watched) -> Option<Page> {
    Some(match path {
        "/" => Page::new("text/html; charset=utf-8", include_str!("web/index.html")),
        "/style.css" => Page::new("text/css; charset=utf-8", include_str!("web/style.css")),
        "/app.js" => Page::new(SCRIPT, include_str!("web/app.js")),
        "/chart.js" => Page::new(SCRIPT, include_str!("web/chart.js")),
        "/icon.svg" => Page::new("image/svg+xml", include_str!("web/icon.svg")),
        "/api/sessions" => Page::json(StatusCode::OK, &State::of(watched)),
        _ => return None,
    })
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All that the page shows. Sizes in bytes, times in milliseconds.
#[derive(Serialize)]
struct State {
    version: &'static str,
    now_unix_ms: u128,
    uptime_ms: u128,
    /// No new sessions are taken any more.
    draining: bool,
    totals: Totals,
    memory: Tier,
    disk: Tier,
    sessions: Vec<SessionSnapshot>,
}

/// Of the spool.
#[derive(Serialize)]
struct Tier {
    used: u64,
    peak: u64,
    limit: Option<u64>,
}

impl State {
    fn of(watched: &Watched) -> Self {
        let Watched { memory, disk, .. } = watched;
        let now = SystemTime::now();
        let since = |then| now.duration_since(then).unwrap_or_default().as_millis();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            now_unix_ms: since(SystemTime::UNIX_EPOCH),
            uptime_ms: since(watched.began),
            draining: watched.stop_accepting.is_cancelled(),
            totals: watched.sessions.totals(),
            memory: Tier { used: memory.used(), peak: memory.peak(), limit: Some(memory.limit()) },
            disk: Tier { used: disk.used(), peak: disk.peak(), limit: disk_limit(disk) },
            sessions: watched.sessions.snapshot(),
        }
    }
}
