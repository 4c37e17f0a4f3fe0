//! What a dump into the slow sink was like over time, and the plot of it.

use std::time::Duration;

use crate::flow::Moment;
use crate::plot::{Panel, Row, Series, TimePlot};

/// One way's dump.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) way: &'static str,
    pub(super) flow: Vec<Moment>,
    /// When the server worked on the table's rows, in seconds since the start.
    pub(super) server: Vec<(f64, f64)>,
    /// When the client had ended.
    pub(super) client: Duration,
}

/// The backlogs, and who was busy when.
pub(super) fn plot(title: String, courses: &[Course]) -> TimePlot {
    let backlogs = courses.iter().map(Course::backlog).collect();
    let rows = courses.iter().flat_map(Course::rows).collect();
    TimePlot {
        title,
        time: "time since the start, s".to_owned(),
        panels: vec![
            Panel::lines("sent by the server and not yet taken by the sink, MB", backlogs),
            Panel::spans("the server is busy with the rows, the client (mysqldump) runs", rows),
        ],
    }
}

impl Course {
    fn backlog(&self) -> Series {
        let left = |moment: &Moment| moment.sent.saturating_sub(moment.taken) as f64 / 1e6;
        let points = self.flow.iter().map(|moment| (moment.at, left(moment))).collect();
        Series { name: self.way.to_owned(), points }
    }

    fn rows(&self) -> [Row; 2] {
        let label = |who: &str| format!("{}, {who}", self.way);
        let client = vec![(0.0, self.client.as_secs_f64())];
        [
            Row { name: "server".to_owned(), label: label("server"), spans: self.server.clone() },
            Row { name: "client".to_owned(), label: label("client"), spans: client },
        ]
    }
}
