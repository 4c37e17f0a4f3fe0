//! Plots of what was measured, each as SVG and as PNG.
//!
//! ```no_run
//! use spillway_bench::plot::{Limit, Panel, Series, TimePlot};
//!
//! let memory = Series { name: "Spillway".to_owned(), points: vec![(0.0, 9.5), (1.0, 31.0), (2.0, 31.5)] };
//! let limit = Limit { name: "target: 64 MiB".to_owned(), value: 64.0 };
//! let panel = Panel::lines("resident memory, MiB", vec![memory]).with_limit(limit);
//! TimePlot {
//!     title: "Memory while 20 GB wait for a client".to_owned(),
//!     time: "time since the query, s".to_owned(),
//!     panels: vec![panel],
//! }
//! .write("target/bench/backlog".as_ref())?; // backlog.svg, backlog.png
//! # anyhow::Ok(())
//! ```
//!
//! A machine may have no fonts, so the PNG is drawn with one that is compiled in; the SVG leaves it to its reader.

mod bars;
mod frame;
mod pen;
mod scale;
mod time;

pub use bars::{BarPlot, Group};
pub use time::{Limit, Panel, Row, Series, TimePlot};
