//! What changes over time, in panels below each other that share their time.

use std::path::Path;

use anyhow::Result;
use plotters::style::RGBColor;

use super::frame::{HEAD, MARGIN, WIDTH, colour, draw_head};
use super::pen::{self, Drawing, FAINT, GREY, INK, Pen, Point, RED, SMALL, Side};
use super::scale::Scale;

/// Panels below each other. A name has the same colour in all of them.
#[derive(Clone, Debug)]
pub struct TimePlot {
    /// What is shown.
    pub title: String,
    /// What the time is, with its unit (`time since the start, s`).
    pub time: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// Lines over time, or spans of time.
#[derive(Clone, Debug)]
pub struct Panel {
    label: String,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Lines(Vec<Series>, Option<Limit>),
    Spans(Vec<Row>),
}

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Time and value, by time.
    pub points: Vec<(f64, f64)>,
}

/// A line at a value that is not to be passed.
#[derive(Clone, Debug)]
pub struct Limit {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub value: f64,
}

/// The times at which something was so.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in the legend; rows of the same have the same colour.
    pub name: String,
    /// What it is, left of it.
    pub label: String,
    /// From when to when.
    pub spans: Vec<(f64, f64)>,
}

impl Panel {
    /// Lines; `label` tells what they are, with the unit.
    pub fn lines(label: &str, series: Vec<Series>) -> Self {
        Self { label: label.to_owned(), content: Content::Lines(series, None) }
    }

    /// Adds a limit to lines.
    pub fn with_limit(mut self, limit: Limit) -> Self {
        if let Content::Lines(_, place) = &mut self.content {
            *place = Some(limit);
        }
        self
    }

    /// Spans of time; `label` tells what they are.
    pub fn spans(label: &str, rows: Vec<Row>) -> Self {
        Self { label: label.to_owned(), content: Content::Spans(rows) }
    }

    fn names(&self) -> Vec<&str> {
        match &self.content {
            Content::Lines(series, _) => series.iter().map(|series| series.name.as_str()).collect(),
            Content::Spans(rows) => rows.iter().map(|row| row.name.as_str()).collect(),
        }
    }

    fn end(&self) -> f64 {
        let times: Vec<f64> = match &self.content {
            Content::Lines(series, _) => {
                series.iter().flat_map(|series| series.points.iter().map(|point| point.0)).collect()
            }
            Content::Spans(rows) => rows.iter().flat_map(|row| row.spans.iter().map(|span| span.1)).collect(),
        };
        times.into_iter().fold(0.0, f64::max)
    }

    fn height(&self) -> f64 {
        match &self.content {
            Content::Lines(..) => 260.0,
            Content::Spans(rows) => rows.len() as f64 * ROW,
        }
    }
}

impl TimePlot {
    /// Writes `STEM.svg` and `STEM.png`.
    pub fn write(&self, stem: &Path) -> Result<()> {
        pen::write(self, stem)
    }

    /// All names, each once.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for name in self.panels.iter().flat_map(Panel::names) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn bottom(&self) -> f64 {
        HEAD + self.panels.iter().map(|panel| LABEL + panel.height()).sum::<f64>()
    }
}

impl Drawing for TimePlot {
    fn size(&self) -> Point {
        (WIDTH, self.bottom() + FOOT)
    }

    fn draw(&self, pen: &dyn Pen) -> Result<()> {
        let names = self.names();
        draw_head(pen, &self.title, &names)?;
        let end = self.panels.iter().map(Panel::end).fold(0.0, f64::max);
        let time = Scale::new(end, 10);
        let mut top = HEAD;
        for panel in &self.panels {
            let frame = Frame { top: top + LABEL, bottom: top + LABEL + panel.height(), time: time.clone() };
            pen.text(&panel.label, (MARGIN, top + LABEL - 18.0), Side::Right, SMALL, INK)?;
            frame.draw_time(pen)?;
            let of = |name: &str| colour(names.iter().position(|known| *known == name).unwrap_or_default());
            match &panel.content {
                Content::Lines(series, limit) => frame.draw_lines(pen, series, limit.as_ref(), &of)?,
                Content::Spans(rows) => frame.draw_spans(pen, rows, &of)?,
            }
            top = frame.bottom;
        }
        for (value, text) in time.marks() {
            pen.text(&text, (right_of(&time, value), top + 16.0), Side::Centre, SMALL, GREY)?;
        }
        pen.text(&self.time, (f64::midpoint(LEFT, RIGHT), top + 40.0), Side::Centre, SMALL, INK)
    }
}

/// Where a panel's data is drawn.
struct Frame {
    top: f64,
    bottom: f64,
    time: Scale,
}

impl Frame {
    /// The lines that go down from top to bottom.
    fn draw_time(&self, pen: &dyn Pen) -> Result<()> {
        for (value, _) in self.time.marks() {
            let right = right_of(&self.time, value);
            pen.line(&[(right, self.top), (right, self.bottom)], FAINT, 1.0)?;
        }
        Ok(())
    }

    fn draw_lines(
        &self,
        pen: &dyn Pen,
        series: &[Series],
        limit: Option<&Limit>,
        colour_of: &dyn Fn(&str) -> RGBColor,
    ) -> Result<()> {
        let values = series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let most = values.chain(limit.map(|limit| limit.value)).fold(0.0, f64::max);
        let scale = Scale::new(most, 5);
        let place = |value: f64| self.bottom - (self.bottom - self.top) * value / scale.end();
        for (value, text) in scale.marks() {
            pen.line(&[(LEFT, place(value)), (RIGHT, place(value))], FAINT, 1.0)?;
            pen.text(&text, (LEFT - 8.0, place(value)), Side::Left, SMALL, GREY)?;
        }
        if let Some(limit) = limit {
            let down = place(limit.value);
            pen.line(&[(LEFT, down), (RIGHT, down)], RED, 1.5)?;
            pen.text(&limit.name, (RIGHT, down + 11.0), Side::Left, SMALL, RED)?;
        }
        for series in series {
            let points: Vec<Point> = series
                .points
                .iter()
                .map(|&(time, value)| (right_of(&self.time, time), place(value)))
                .collect();
            pen.line(&points, colour_of(&series.name), 2.0)?;
        }
        Ok(())
    }

    fn draw_spans(&self, pen: &dyn Pen, rows: &[Row], colour_of: &dyn Fn(&str) -> RGBColor) -> Result<()> {
        for (number, row) in rows.iter().enumerate() {
            let middle = self.top + (number as f64 + 0.5) * ROW;
            pen.text(&row.label, (LEFT - 8.0, middle), Side::Left, SMALL, GREY)?;
            for &(from, to) in &row.spans {
                let right = right_of(&self.time, to).max(right_of(&self.time, from) + 1.0);
                let from = (right_of(&self.time, from), middle - ROW * 0.32);
                pen.fill(from, (right, middle + ROW * 0.32), colour_of(&row.name))?;
            }
        }
        Ok(())
    }
}

fn right_of(time: &Scale, value: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * value / time.end()
}

/// Numbers and the labels of rows are left of this.
const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - MARGIN - 10.0;
/// Height of a panel's label.
const LABEL: f64 = 42.0;
/// Height of a row of spans.
const ROW: f64 = 26.0;
/// Height of the times and what they are.
const FOOT: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panel_is_there_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let backlog =
            Series { name: "Spillway".to_owned(), points: vec![(0.0, 0.0), (1.5, 700.0), (9.0, 0.0)] };
        let row =
            Row { name: "Spillway".to_owned(), label: "server busy".to_owned(), spans: vec![(0.1, 1.5)] };
        let limit = Limit { name: "the disk".to_owned(), value: 900.0 };
        let panels = vec![
            Panel::lines("backlog, MB", vec![backlog]).with_limit(limit),
            Panel::spans("busy", vec![row]),
        ];
        let title = "A slow sink".to_owned();
        TimePlot { title, time: "time, s".to_owned(), panels }.write(&dir.path().join("time")).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("time.svg")).unwrap();
        for text in ["A slow sink", "backlog, MB", "the disk", "server busy", "time, s", "1,000"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert_eq!(svg.matches("Spillway").count(), 1, "a name is in the legend once");
    }
}
