//! What came of the cells, as tables for `docs/compatibility.md`.

use std::fmt::Display;

use super::bench::Outcome;
use super::{Cell, Client, Compression, Login, Plugin, Product, Transport};
use crate::readme::wrapped;

/// Markdown: how many cells are right of how many that were run, from several sides. `version` gives a server's.
pub fn render(outcomes: &[Outcome], version: impl Fn(Product) -> String) -> String {
    let servers: Vec<_> = Product::ALL.iter().map(|&product| (product, version(product))).collect();
    let transports: Vec<_> = Transport::ALL
        .iter()
        .flat_map(|front| {
            Transport::ALL.iter().map(move |back| ((*front, *back), format!("{front}, {back}")))
        })
        .collect();
    [
        introduction(outcomes),
        grid("client", &titled(Client::ALL), &servers, outcomes, |cell| (cell.client, cell.server)),
        grid("client's side, server's side", &transports, &titled(Plugin::ALL), outcomes, |cell| {
            ((cell.front, cell.back), cell.plugin)
        }),
        grid("client's side", &titled(Compression::ALL), &server_sides(), outcomes, |cell| {
            (cell.front_compression, cell.back_compression)
        }),
        grid("password checked by", &checkers(), &titled(Plugin::ALL), outcomes, |cell| {
            (cell.login, cell.plugin)
        }),
        obstacles(),
    ]
    .join("\n")
}

fn introduction(outcomes: &[Outcome]) -> String {
    let right = outcomes.iter().filter(|(_, result)| result.is_ok()).count();
    format!(
        "`make matrix` dumped the same data in {} ways; {right} dumps were, byte for byte, what the client got directly.\n\
         In the tables: how many of how many.\n",
        outcomes.len()
    )
}

/// A table of rows and columns with their titles; `place` tells where a cell counts.
fn grid<R: PartialEq, C: PartialEq>(
    corner: &str,
    rows: &[(R, String)],
    columns: &[(C, String)],
    outcomes: &[Outcome],
    place: impl Fn(&Cell) -> (R, C),
) -> String {
    let mut text = format!("| {corner} |");
    for (_, title) in columns {
        text += &format!(" {title} |");
    }
    text += &format!("\n|---|{}\n", "---|".repeat(columns.len()));
    for (row, title) in rows {
        text += &format!("| {title} |");
        for (column, _) in columns {
            let here: Vec<bool> = outcomes
                .iter()
                .filter(|(cell, _)| {
                    let (of_row, of_column) = place(cell);
                    of_row == *row && of_column == *column
                })
                .map(|(_, result)| result.is_ok())
                .collect();
            text += &format!(" {} |", counted(&here));
        }
        text.push('\n');
    }
    text
}

/// `12/12`; what is not all right stands out.
fn counted(right: &[bool]) -> String {
    let count = right.iter().filter(|right| **right).count();
    match right.len() {
        0 => "–".to_owned(),
        all if all == count => format!("{count}/{all}"),
        all => format!("**{count}/{all}**"),
    }
}

fn obstacles() -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for reason in Cell::product().filter_map(|cell| cell.obstacle()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons.sort_unstable();
    wrapped(&format!("What is missing is missing without Spillway, too: {}.", reasons.join("; ")))
}

fn titled<T: Copy + Display>(values: &[T]) -> Vec<(T, String)> {
    values.iter().map(|&value| (value, value.to_string())).collect()
}

fn server_sides() -> Vec<(Compression, String)> {
    Compression::ALL
        .iter()
        .map(|&compression| (compression, format!("server's side: {compression}")))
        .collect()
}

fn checkers() -> Vec<(Login, String)> {
    Login::ALL
        .iter()
        .map(|&login| match login {
            Login::Passthrough => (login, "the server".to_owned()),
            Login::Stored => (login, "Spillway (`--auth stored`)".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_is_wrong_stands_out() {
        let mut outcomes: Vec<Outcome> = Cell::all().into_iter().map(|cell| (cell, Ok(()))).collect();
        assert!(!render(&outcomes, |product| product.to_string()).contains("**"));
        let wrong = outcomes.iter_mut().find(|(cell, _)| cell.plugin == Plugin::Parsec);
        wrong.expect("parsec").1 = Err(anyhow!("a byte is missing"));
        let text = render(&outcomes, |product| product.to_string());
        let bold: Vec<&str> = text.lines().filter(|line| line.contains("**")).collect();
        assert_eq!(bold.len(), 4, "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| PyMySQL")).collect();
        assert_eq!(lines.len(), 1, "{text}");
    }
}
