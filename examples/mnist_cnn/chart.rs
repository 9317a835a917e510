//! The chart at the end of a run: loss and accuracy by epoch, and the misread digits.

use gristmill::train::History;
use plotters::prelude::*;
use std::error::Error;

/// A misread test image.
pub struct Miss {
    pub pixels: Vec<u8>,
    pub predicted: u32,
    pub label: u32,
}

/// Misses are shown in `DOWN` rows of `ACROSS`.
const ACROSS: usize = 12;
const DOWN: usize = 3;
pub const MOST_MISSES: usize = ACROSS * DOWN;

/// Draws the chart as SVG, which needs no font on this machine.
pub fn draw(
    title: &str,
    history: &History,
    misses: &[Miss],
    columns: usize,
) -> Result<String, Box<dyn Error>> {
    let mut picture = String::new();
    {
        let root = SVGBackend::with_string(&mut picture, (1000, 700)).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.titled(title, ("sans-serif", 22))?;
        let (curves, digits) = root.split_vertically(380);
        let halves = curves.split_evenly((1, 2));
        for (area, name) in halves.iter().zip(["loss", "accuracy"]) {
            let pick =
                |name: &str| history.epochs().iter().filter_map(|logs| logs.get(name)).collect::<Vec<_>>();
            curve(area, name, &pick(name), &pick(&format!("val_{name}")))?;
        }
        let heading = match misses.len() {
            0 => "no digit was wrong".to_string(),
            n => format!("{n} of the test images it got wrong: predicted (label)"),
        };
        let digits = digits.titled(&heading, ("sans-serif", 18))?;
        for (cell, miss) in digits.split_evenly((DOWN, ACROSS)).iter().zip(misses) {
            draw_digit(cell, miss, columns)?;
        }
        root.present()?;
    }
    Ok(picture)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn curve(area: &Area, name: &str, train: &[f64], test: &[f64]) -> Result<(), Box<dyn Error>> {
    let all = || train.iter().chain(test).copied().filter(|y| y.is_finite());
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    // One value, or none.
    let (low, high) = if low < high { (low, high) } else { (low.min(1.0) - 0.5, low.min(1.0) + 0.5) };
    let margin = (high - low) * 0.05;
    let last = train.len().max(2) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(1.0..last, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(name)
        .x_labels(train.len().clamp(2, 10))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (label, values, colour) in [("train", train, BLUE), ("test", test, RED)] {
        let points: Vec<(f64, f64)> =
            values.iter().enumerate().map(|(at, &y)| (at as f64 + 1.0, y)).collect();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

fn draw_digit(area: &Area, miss: &Miss, columns: usize) -> Result<(), Box<dyn Error>> {
    let (width, _) = area.dim_in_pixel();
    let side = 2i32;
    let left = (width as i32 - columns as i32 * side) / 2;
    for (at, &pixel) in miss.pixels.iter().enumerate().filter(|(_, pixel)| **pixel > 0) {
        let (x, y) = (left + (at % columns) as i32 * side, 2 + (at / columns) as i32 * side);
        let shade = 255 - pixel;
        area.draw(&Rectangle::new([(x, y), (x + side, y + side)], RGBColor(shade, shade, shade).filled()))?;
    }
    let text = format!("{} ({})", miss.predicted, miss.label);
    area.draw(&Text::new(text, (left + 6, 2 + columns as i32 * side), ("sans-serif", 14)))?;
    Ok(())
}
