//! What plots are drawn with: lines, boxes and words on an SVG and on a PNG at once.
//!
//! Lengths are the SVG's pixels, from the upper left corner; the PNG has [`PNG_SCALE`] times as many.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A point: right, down.
pub(super) type Point = (f64, f64);

/// Where a word is, seen from the point that it is drawn at. In height it is centred there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Right,
    Left,
    Centre,
}

/// What can be drawn.
pub(super) trait Drawing {
    /// Width and height.
    fn size(&self) -> Point;
    fn draw(&self, pen: &dyn Pen) -> Result<()>;
}

/// What draws.
pub(super) trait Pen {
    /// A line through these points.
    fn line(&self, points: &[Point], colour: RGBColor, width: f64) -> Result<()>;
    /// A filled box between two corners.
    fn fill(&self, from: Point, to: Point, colour: RGBColor) -> Result<()>;
    /// A word or more.
    fn text(&self, text: &str, at: Point, side: Side, size: f64, colour: RGBColor) -> Result<()>;
    /// How wide that would be. The font of who looks at the SVG may be somewhat wider.
    fn width(&self, text: &str, size: f64) -> Result<f64>;
}

/// Writes `STEM.svg` and `STEM.png`.
pub(super) fn write(drawing: &dyn Drawing, stem: &Path) -> Result<()> {
    let written = || {
        load_font()?;
        if let Some(dir) = stem.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(stem.with_extension("svg"), svg(drawing)?)?;
        write_png(drawing, &stem.with_extension("png"))
    };
    written().with_context(|| format!("drawing {}", stem.display()))
}

fn svg(drawing: &dyn Drawing) -> Result<String> {
    let (width, height) = drawing.size();
    let mut text = String::new();
    let area =
        SVGBackend::with_string(&mut text, (pixels(width, 1.0), pixels(height, 1.0))).into_drawing_area();
    draw(drawing, &area, 1.0, 0.0)?;
    drop(area);
    Ok(text)
}

fn write_png(drawing: &dyn Drawing, path: &Path) -> Result<()> {
    let (width, height) = drawing.size();
    let size = (pixels(width, PNG_SCALE), pixels(height, PNG_SCALE));
    let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
    draw(drawing, &BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area(), PNG_SCALE, PNG_LOWER)?;
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    Ok(writer.finish()?)
}

fn draw<B: DrawingBackend>(
    drawing: &dyn Drawing,
    area: &DrawingArea<B, Shift>,
    scale: f64,
    lower: f64,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    drawing.draw(&Area { area: area.clone(), scale, lower })?;
    Ok(area.present()?)
}

struct Area<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
    scale: f64,
    /// By so much of its size a text is drawn lower.
    lower: f64,
}

impl<B: DrawingBackend> Area<B> {
    fn at(&self, (right, down): Point) -> (i32, i32) {
        ((right * self.scale).round() as i32, (down * self.scale).round() as i32)
    }

    fn style<'a>(&self, size: f64, side: Side, colour: &'a RGBColor) -> TextStyle<'a> {
        let side = match side {
            Side::Right => HPos::Left,
            Side::Left => HPos::Right,
            Side::Centre => HPos::Center,
        };
        TextStyle::from((FONT, size * self.scale).into_font()).color(colour).pos(Pos::new(side, VPos::Center))
    }
}

impl<B: DrawingBackend> Pen for Area<B>
where
    B::ErrorType: 'static,
{
    fn line(&self, points: &[Point], colour: RGBColor, width: f64) -> Result<()> {
        let style = colour.stroke_width(pixels(width, self.scale));
        let points: Vec<_> = points.iter().map(|&point| self.at(point)).collect();
        Ok(self.area.draw(&PathElement::new(points, style))?)
    }

    fn fill(&self, from: Point, to: Point, colour: RGBColor) -> Result<()> {
        Ok(self.area.draw(&Rectangle::new([self.at(from), self.at(to)], colour.filled()))?)
    }

    fn text(&self, text: &str, at: Point, side: Side, size: f64, colour: RGBColor) -> Result<()> {
        let at = self.at((at.0, at.1 + self.lower * size));
        Ok(self.area.draw_text(text, &self.style(size, side, &colour), at)?)
    }

    fn width(&self, text: &str, size: f64) -> Result<f64> {
        let (width, _) = self.area.estimate_text_size(text, &self.style(size, Side::Right, &INK))?;
        Ok(f64::from(width) / self.scale)
    }
}

/// The PNG needs a font, and a machine may have none.
fn load_font() -> Result<()> {
    static LOADED: OnceLock<bool> = OnceLock::new();
    let loaded = LOADED
        .get_or_init(|| register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok());
    ensure!(*loaded, "the font that is compiled in cannot be read");
    Ok(())
}

fn pixels(length: f64, scale: f64) -> u32 {
    (length * scale).round() as u32
}

/// The generic name: a reader of the SVG takes a font of its own.
const FONT: &str = "sans-serif";
/// Sharp on today's screens, and in a README.
const PNG_SCALE: f64 = 2.0;
/// plotters centres a box in which the letters of this font lie high.
const PNG_LOWER: f64 = 0.14;

/// Of words.
pub(super) const INK: RGBColor = RGBColor(0x20, 0x24, 0x2c);
/// Of words and lines that matter less.
pub(super) const GREY: RGBColor = RGBColor(0x6a, 0x70, 0x78);
/// Of the lines behind the data.
pub(super) const FAINT: RGBColor = RGBColor(0xe2, 0xe4, 0xe8);
/// Of limits.
pub(super) const RED: RGBColor = RGBColor(0xc0, 0x20, 0x30);
/// Of words in and around a plot.
pub(super) const SMALL: f64 = 14.0;
/// Of a title.
pub(super) const LARGE: f64 = 19.0;
