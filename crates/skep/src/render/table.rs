//! Tables: columns as wide as their widest cell, three blanks apart, as docker prints them.

use super::shown::one_line;

/// Returns a table with a header.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |row: &Vec<String>| row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let columns = header.len();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(header.to_vec());
    for row in &rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = vec![vec!["a".to_owned(), "b".to_owned()], vec!["longer".into(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X        Y\na        b\nlonger\n");
    }

    #[test]
    fn a_cell_is_as_wide_as_what_is_shown_of_it() {
        let rows = vec![vec!["a\x1b[2J\nb".to_owned(), "c".to_owned()]];
        assert_eq!(table(&["X", "Y"], &rows), "X            Y\na\\x1b[2J b   c\n");
    }
}
