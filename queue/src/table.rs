//! Tables in plain text. Pure: strings in, one string out, harmless whatever was in them.

use libqueue::text::printable;

/// A table with a line of heads. Its last column may be cut, the others are as wide as what is in them.
#[derive(Debug, Clone)]
pub struct Table {
    /// Whether a column stands on the right of its room.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Heads; one that begins with `>` is of a column of numbers, which stands on the right.
    pub fn new(heads: &[&str]) -> Self {
        Self {
            right: heads.iter().map(|h| h.starts_with('>')).collect(),
            rows: vec![
                heads
                    .iter()
                    .map(|h| h.trim_start_matches('>').to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row, with as many cells as there are heads.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.right.len(), "{cells:?}");
        // Whoever made the cells may have forgotten where they come from.
        self.rows.push(cells.iter().map(|c| printable(c)).collect());
    }

    /// As text; lines longer than `width` are cut, and end in `...`.
    pub fn render(&self, width: Option<usize>) -> String {
        let length = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..self.right.len())
            .map(|i| {
                self.rows
                    .iter()
                    .map(|r| r.get(i).map_or(0, length))
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let blanks = widths[i].saturating_sub(length(cell));
                if i > 0 {
                    line.push_str("  ");
                }
                if self.right[i] {
                    line.extend(std::iter::repeat_n(' ', blanks));
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.extend(std::iter::repeat_n(' ', blanks));
                }
            }
            out.push_str(&cut(line.trim_end(), width));
            out.push('\n');
        }
        out
    }
}

/// At most `width` characters; what was cut ends in `...`.
pub fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(w) if line.chars().count() > w => {
            let mut short: String = line.chars().take(w.saturating_sub(3)).collect();
            short.push_str(&"..."[..w.min(3)]);
            short
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_long_lines_are_cut() {
        let mut t = Table::new(&["NAME", ">N", "TEXT"]);
        t.row(vec!["h1".into(), "7".into(), "grüße an alle".into()]);
        t.row(vec!["long-name".into(), "1234".into(), String::new()]);
        assert_eq!(
            t.render(None),
            "NAME          N  TEXT\nh1            7  grüße an alle\nlong-name  1234\n"
        );
        assert_eq!(
            t.render(Some(24)),
            "NAME          N  TEXT\nh1            7  grüß...\nlong-name  1234\n"
        );
        assert_eq!(cut("abcdef", Some(2)), "..");
    }
}
