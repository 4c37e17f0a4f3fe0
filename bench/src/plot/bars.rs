//! Bars in groups, with a line at 1: ratios.

use std::path::Path;

use anyhow::Result;
use plotters::style::WHITE;

use super::frame::{HEAD, MARGIN, WIDTH, colour, draw_head};
use super::pen::{self, Drawing, FAINT, GREY, INK, Pen, Point, SMALL, Side};
use super::scale::Scale;

/// Groups of bars that lie below each other; at the line at 1 a bar is as long as what it is compared with.
#[derive(Clone, Debug)]
pub struct BarPlot {
    /// What is shown.
    pub title: String,
    /// What the numbers are (`speed over that of a direct connection`).
    pub label: String,
    /// Names of the bars of a group, in their order, for the legend; none where a group has one bar.
    pub names: Vec<String>,
    /// The groups from top to bottom.
    pub groups: Vec<Group>,
}

/// Bars that belong together.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they are bars of.
    pub name: String,
    /// A length for each name, where there is one.
    pub values: Vec<Option<f64>>,
}

impl BarPlot {
    /// Writes `STEM.svg` and `STEM.png`.
    pub fn write(&self, stem: &Path) -> Result<()> {
        pen::write(self, stem)
    }

    fn axis(&self) -> Axis {
        let values = self.groups.iter().flat_map(|group| group.values.iter().flatten().copied());
        Axis { scale: Scale::new(values.fold(1.0, f64::max), 6) }
    }

    /// The groups, and where each begins.
    fn places(&self) -> impl Iterator<Item = (f64, &Group)> {
        self.groups.iter().scan(HEAD, |next, group| {
            let top = *next;
            *next += group.height();
            Some((top, group))
        })
    }

    fn bottom(&self) -> f64 {
        HEAD + self.groups.iter().map(Group::height).sum::<f64>()
    }
}

impl Drawing for BarPlot {
    fn size(&self) -> Point {
        (WIDTH, self.bottom() + FOOT)
    }

    fn draw(&self, pen: &dyn Pen) -> Result<()> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        draw_head(pen, &self.title, &names)?;
        let (axis, bottom) = (self.axis(), self.bottom());
        for (value, text) in axis.scale.marks() {
            let right = axis.place(value);
            pen.line(&[(right, HEAD), (right, bottom)], FAINT, 1.0)?;
            pen.text(&text, (right, bottom + 16.0), Side::Centre, SMALL, GREY)?;
        }
        pen.text(&self.label, (f64::midpoint(LEFT, RIGHT), bottom + 40.0), Side::Centre, SMALL, INK)?;
        for (top, group) in self.places() {
            group.draw(pen, &axis, top)?;
        }
        // Over the bars, but under the numbers.
        pen.line(&[(axis.place(1.0), HEAD - 4.0), (axis.place(1.0), bottom)], INK, 1.5)?;
        self.places().try_for_each(|(top, group)| group.number(pen, &axis, top))
    }
}

impl Group {
    /// The bars that there are: how far each is below the group's top, its number among the names, its length.
    fn bars(&self) -> impl Iterator<Item = (f64, usize, f64)> {
        let values = self.values.iter().enumerate().filter_map(|(number, value)| Some((number, (*value)?)));
        values.enumerate().map(|(place, (number, value))| (GAP / 2.0 + place as f64 * BAR, number, value))
    }

    fn height(&self) -> f64 {
        self.bars().count().max(1) as f64 * BAR + GAP
    }

    fn draw(&self, pen: &dyn Pen, axis: &Axis, top: f64) -> Result<()> {
        let middle = top + self.height() / 2.0;
        pen.text(&self.name, (LEFT - 12.0, middle), Side::Left, SMALL, INK)?;
        for (below, number, value) in self.bars() {
            let top = top + below;
            pen.fill((LEFT, top + 1.0), (axis.place(value), top + BAR - 1.0), colour(number))?;
        }
        Ok(())
    }

    /// Writes each bar's length behind it, on white.
    fn number(&self, pen: &dyn Pen, axis: &Axis, top: f64) -> Result<()> {
        for (below, _, value) in self.bars() {
            let (left, top) = (axis.place(value) + 6.0, top + below);
            let text = format!("{value:.2}");
            let right = left + pen.width(&text, NUMBER)? + 3.0;
            pen.fill((left - 3.0, top + 1.0), (right, top + BAR - 1.0), WHITE)?;
            pen.text(&text, (left, top + BAR / 2.0), Side::Right, NUMBER, GREY)?;
        }
        Ok(())
    }
}

struct Axis {
    scale: Scale,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * value / self.scale.end()
    }
}

/// The groups' names are left of this.
const LEFT: f64 = 190.0;
/// The longest bar's number is right of this.
const RIGHT: f64 = WIDTH - MARGIN - 30.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;
/// Size of the bars' numbers.
const NUMBER: f64 = SMALL - 2.0;
/// Height of the marks' texts and the label.
const FOOT: f64 = 60.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_show_what_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let plot = BarPlot {
            title: "Speed of a <raw> client".to_owned(),
            label: "speed over direct".to_owned(),
            names: ["haproxy", "spillway"].map(str::to_owned).to_vec(),
            groups: vec![Group { name: "drain-wide".to_owned(), values: vec![None, Some(0.93)] }],
        };
        plot.write(&dir.path().join("new/bars")).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("new/bars.svg")).unwrap();
        for text in ["Speed of a &lt;raw&gt; client", "haproxy", "drain-wide", "0.93"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        let file = std::fs::File::open(dir.path().join("new/bars.png")).unwrap();
        let png = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
        assert_eq!(png.info().width, 2 * WIDTH as u32);
    }
}
