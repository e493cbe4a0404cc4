//! Columns that line up, as Go's text/tabwriter makes them: a cell ends at a TAB, and a column is a
//! block of adjacent lines that have that cell.

/// How columns are filled up.
#[derive(Debug, Clone, Copy)]
pub struct Fill {
    /// The least width of a column.
    pub least: usize,
    /// What is added to the widest cell.
    pub padding: usize,
    /// Whether cells are filled with TABs, eight to a stop, and not with blanks.
    pub tabs: bool,
}

/// Help's columns.
pub const HELP: Fill = Fill { least: 0, padding: 1, tabs: true };

/// The columns of a table of machines.
pub const TABLE: Fill = Fill { least: 5, padding: 3, tabs: false };

/// The columns of other tables.
pub const COLUMNS: Fill = Fill { least: 0, padding: 3, tabs: false };

const STOP: usize = 8;

/// Lines the cells of a text up.
#[must_use]
pub fn align(text: &str, fill: Fill) -> String {
    let mut lines: Vec<Vec<&str>> =
        text.split('\n').map(|line| line.split('\t').collect()).collect();
    // What follows the last newline is a line only if there is something, and its last cell too.
    if let Some(last) = lines.last_mut()
        && last.len() > 1
        && last.last() == Some(&"")
    {
        last.pop();
    }
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|_| Vec::new()).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns.saturating_sub(1) {
        let mut from = 0;
        while from < lines.len() {
            let has = |line: &Vec<&str>| line.len() > column + 1;
            let count = lines[from..].iter().take_while(|line| has(line)).count();
            let block = &lines[from..from + count];
            let cells = block.iter().map(|line| line[column].chars().count() + fill.padding);
            let mut width = cells.max().unwrap_or(0).max(fill.least);
            if fill.tabs {
                width = width.next_multiple_of(STOP);
            }
            for widths in &mut widths[from..from + count] {
                widths.push(width);
            }
            from += count.max(1);
        }
    }
    let line = |(cells, widths): (&Vec<&str>, &Vec<usize>)| {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            line.push_str(cell);
            if let Some(width) = widths.get(index) {
                let missing = width.saturating_sub(cell.chars().count());
                match fill.tabs {
                    true => line.push_str(&"\t".repeat(missing.div_ceil(STOP))),
                    false => line.push_str(&" ".repeat(missing)),
                }
            }
        }
        line
    };
    lines.iter().zip(&widths).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_filled_up_but_for_the_last() {
        assert_eq!(align("A\tB\tC\nlonger\t\t\n", TABLE), "A        B    C\nlonger        \n");
        assert_eq!(align("NAME\t", TABLE), "NAME");
    }

    #[test]
    fn a_block_ends_at_a_line_without_the_cell() {
        assert_eq!(align("a\tb\n\nlonger than\tc\n", HELP), "a\tb\n\nlonger than\tc\n");
        assert_eq!(align("a\tb\nlonger than\tc\n", HELP), "a\t\tb\nlonger than\tc\n");
    }
}
