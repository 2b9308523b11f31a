//! Output as a terminal understands it.

use queue_screen::{Screen, Whom};

/// Enough for what a screen can be told, and quickly done.
const MOST: usize = 512;
/// Largest windows.
const ROWS: u32 = 32;
const COLS: u32 = 96;
/// So much that it is worth being understood while nothing else is to do.
const FLOOD: usize = 40 * 1024;

/// A screen is the same however its output was cut, and whether or not it was looked at meanwhile; sizes change, and
/// floods are survived.
pub fn screen(data: &[u8]) {
    let Some((&[rows, cols, later_rows, later_cols], output)) = data.split_first_chunk::<4>() else {
        return;
    };
    let output = &output[..output.len().min(MOST)];
    let (before, after) = output.split_at(output.len() / 2);
    let size = |rows: u8, cols: u8| (u32::from(rows) % ROWS, u32::from(cols) % COLS);
    let (first, second) = (size(rows, cols), size(later_rows, later_cols));
    let new = || Screen::new(first.0, first.1);
    let (mut whole, mut cut) = (new(), new());
    whole.feed(before);
    for piece in before.chunks(1 + before.len() / 3) {
        cut.feed(piece);
        let _ = cut.leave();
    }
    for s in [&mut whole, &mut cut] {
        s.resize(second.0, second.1);
    }
    whole.feed(after);
    for piece in after.chunks(1 + after.len() / 3) {
        cut.feed(piece);
        let _ = cut.paint(Whom::Same);
    }
    let pictures = [Whom::Newcomer, Whom::Same].map(|whom| (whole.paint(whom), cut.paint(whom)));
    // How many signs stand for bytes that are no UTF-8 depends on where they are cut: the parser's (`vte`) way.
    if std::str::from_utf8(output).is_ok() {
        for (one, other) in &pictures {
            assert_eq!(shown(one), shown(other));
        }
        assert_eq!(shown(&whole.leave()), shown(&cut.leave()));
    }
    if !output.is_empty() && rows >= 128 {
        let mut flood = new();
        for _ in 0..FLOOD / output.len() {
            flood.feed(output);
            if flood.has_work() {
                flood.work();
            }
        }
        let _ = flood.paint(Whom::Newcomer);
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
