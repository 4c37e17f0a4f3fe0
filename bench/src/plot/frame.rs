//! The parts that every plot has: title, legend, colours.

use anyhow::Result;
use plotters::style::RGBColor;

use super::pen::{GREY, INK, LARGE, Pen, SMALL, Side};

/// Draws the title and, below it, each name with its colour.
pub(super) fn draw_head(pen: &dyn Pen, title: &str, names: &[&str]) -> Result<()> {
    pen.text(title, (MARGIN, 24.0), Side::Right, LARGE, INK)?;
    let (mut right, middle) = (MARGIN, 50.0);
    for (number, name) in names.iter().enumerate() {
        pen.fill((right, middle - 5.0), (right + 14.0, middle + 5.0), colour(number))?;
        pen.text(name, (right + 20.0, middle), Side::Right, SMALL, GREY)?;
        // The reader's font may be wider than ours.
        right += 20.0 + pen.width(name, SMALL)? * 1.15 + 22.0;
    }
    Ok(())
}

/// The colour of the name of this number. (The palette of Okabe and Ito, which the colour-blind can tell apart.)
pub(super) fn colour(number: usize) -> RGBColor {
    PALETTE[number % PALETTE.len()]
}

const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x50, 0x50, 0x50),
];

pub(super) const MARGIN: f64 = 24.0;
/// Height of title and legend.
pub(super) const HEAD: f64 = 72.0;
pub(super) const WIDTH: f64 = 960.0;
