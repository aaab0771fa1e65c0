//! Tables whose columns are as wide as their widest cell.

/// Least width of a column, the gap included.
const LEAST_WIDTH: usize = 12;

/// Blanks between the widest cell of a column and the next column.
const GAP: usize = 3;

/// Renders rows of cells, the header first, one row a line. The last cell of a row is not padded.
///
/// Widths are counted in characters. This is the look of runc's `list` (Go's tabwriter with 12, 1, 3), which scripts cut
/// into columns.
#[must_use]
pub fn render_table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or(0).max(LEAST_WIDTH)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            out += cell;
            if index + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', widths[index] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn a_header_alone_has_the_least_widths() {
        // As `runc list` prints it without containers.
        let header = row(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        let expected = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(render_table(&[header]), expected);
    }

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let rows = [row(&["ID", "X"]), row(&["a-container-with-é", "1"]), row(&["", "2"])];
        let expected = "\
ID                   X
a-container-with-é   1
                     2
";
        assert_eq!(render_table(&rows), expected);
    }
}
