//! Lists: the columns of a list are declared once ([`Row`]); tables, `-o`, `-q`, `--format` and the help on fields all
//! follow from them.
//!
//! A list command flattens [`Listing`] into its arguments, makes a [`Printer`] of it before it looks at anything, so
//! that a wrong template is refused at once, and hands its rows and its JSON document over.

mod format;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use clap::{Args, ValueEnum};
use serde_json::Value;
use skep_print::{
    shown::{document, shown},
    write_exact,
};

use self::format::Format;
use crate::cli::Output;
use crate::error::CliError;
use crate::render::{document_text, table::table};

/// What a list has rows of.
pub trait Row: Sized + 'static {
    /// The columns, in order.
    const COLUMNS: &'static [Column<Self>];
    /// The field that `-o name` prints.
    const NAME: &'static str;
    /// The field that `-q` prints.
    const ID: &'static str = Self::NAME;
}

/// A column of a table, and a field of templates.
pub struct Column<R> {
    header: &'static str,
    field: Option<&'static str>,
    shown: Shown,
    cell: fn(&R) -> String,
}

/// Where a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// In every table.
    Always,
    /// In tables with `-o wide`.
    Wide,
    /// Only where a template names its field.
    Named,
}

impl<R> Column<R> {
    /// Creates a column of every table, which templates have as a field.
    #[must_use]
    pub const fn new(header: &'static str, field: &'static str, cell: fn(&R) -> String) -> Self {
        Self { header, field: Some(field), shown: Shown::Always, cell }
    }

    /// Creates a column that no template has: docker gives the field of that name other words.
    #[must_use]
    pub const fn without_field(header: &'static str, cell: fn(&R) -> String) -> Self {
        Self { header, field: None, shown: Shown::Always, cell }
    }

    /// Creates a column of wide tables, which templates have as a field.
    #[must_use]
    pub const fn wide(header: &'static str, field: &'static str, cell: fn(&R) -> String) -> Self {
        Self { header, field: Some(field), shown: Shown::Wide, cell }
    }

    /// Creates a field of templates that is in no other table.
    #[must_use]
    pub const fn only_named(
        header: &'static str,
        field: &'static str,
        cell: fn(&R) -> String,
    ) -> Self {
        Self { header, field: Some(field), shown: Shown::Named, cell }
    }
}

/// The formats of lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A table with more columns.
    Wide,
    /// Names only, one per line.
    Name,
}

// A comment in the form of documentation would become that of every command with a list.
#[allow(missing_docs)]
#[derive(Debug, Args)]
#[command(after_help = fields_help::<R>())]
pub struct Listing<R: Row> {
    /// Output format; wide adds columns, name prints names only.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: ListFormat,
    /// Print each row with this Go template; 'table TEMPLATE' adds headers, json prints one object
    /// per row.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "output")]
    pub format: Option<String>,
    // It replaces the option that all commands have, whose name it bears.
    #[arg(long, short, conflicts_with = "verbose", help = quiet_help::<R>())]
    pub quiet: bool,
    #[arg(skip)]
    of: PhantomData<R>,
}

impl<R: Row> Listing<R> {
    /// Returns what prints the list.
    ///
    /// # Errors
    ///
    /// If the template is none, or names a field that the list does not have.
    pub fn printer(&self) -> Result<Printer<R>, CliError> {
        debug_assert!([R::NAME, R::ID].iter().all(|name| fields::<R>().any(|it| it.0 == *name)));
        let how = match (self.output, self.format.as_deref()) {
            (_, Some("json")) => How::Objects,
            (_, Some(text)) if text.trim() != "table" => How::Format(Format::parse::<R>(text)?),
            (ListFormat::Json, _) => How::Document(Output::Json),
            (ListFormat::Yaml, _) => How::Document(Output::Yaml),
            // As docker has it: a format that the user chose counts more.
            (ListFormat::Table | ListFormat::Wide, _) if self.quiet => How::Ids,
            (ListFormat::Table, _) => How::Table { wide: false },
            (ListFormat::Wide, _) => How::Table { wide: true },
            (ListFormat::Name, _) => How::Names,
        };
        Ok(Printer { how, of: PhantomData })
    }
}

/// Prints a list as the user wants it.
pub struct Printer<R> {
    how: How,
    of: PhantomData<R>,
}

enum How {
    Table { wide: bool },
    Names,
    Ids,
    Objects,
    Format(Format),
    Document(Output),
}

impl<R: Row> Printer<R> {
    /// Tells whether a table is printed, beside which remarks may stand.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.how, How::Table { .. })
    }

    /// Tells whether the document is printed, which has everything.
    #[must_use]
    pub fn is_document(&self) -> bool {
        matches!(self.how, How::Document(_))
    }

    /// Prints the list. The document is for `-o json` and `-o yaml`.
    ///
    /// # Errors
    ///
    /// If the template cannot be executed.
    pub fn print(&self, rows: &[R], document: impl FnOnce() -> Value) -> Result<(), CliError> {
        write_exact(self.how.text(rows, document)?.as_bytes());
        Ok(())
    }

    /// Prints a second list in the same way, unless the document has it too.
    ///
    /// # Errors
    ///
    /// As [`Printer::print`].
    pub fn print_also<S: Row>(&self, rows: &[S]) -> Result<(), CliError> {
        if self.is_document() {
            return Ok(());
        }
        let gap = if self.is_table() { "\n" } else { "" };
        let text = self.how.text(rows, || Value::Null)?;
        write_exact(format!("{gap}{text}").as_bytes());
        Ok(())
    }
}

impl How {
    fn text<R: Row>(&self, rows: &[R], value: impl FnOnce() -> Value) -> Result<String, CliError> {
        Ok(match self {
            Self::Table { wide } => text_table(rows, *wide),
            Self::Names => lines(rows, R::NAME),
            Self::Ids => lines(rows, R::ID),
            Self::Objects => {
                document(rows.iter().map(|row| format!("{}\n", object(row))).collect())
            }
            Self::Format(format) => shown(&format.text(rows)?).into_owned(),
            Self::Document(output) => document_text(*output, &value()),
        })
    }
}

/// Returns a table of rows.
#[must_use]
pub fn text_table<R: Row>(rows: &[R], wide: bool) -> String {
    let columns = R::COLUMNS.iter().filter(|column| match column.shown {
        Shown::Always => true,
        Shown::Wide => wide,
        Shown::Named => false,
    });
    let columns: Vec<_> = columns.collect();
    let header: Vec<_> = columns.iter().map(|column| column.header).collect();
    let cells = |row| columns.iter().map(|column| (column.cell)(row)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&header, &rows)
}

fn lines<R: Row>(rows: &[R], field: &str) -> String {
    let column = R::COLUMNS.iter().find(|column| column.field == Some(field));
    let column = column.expect("a list has the field that is its name");
    // Some have several rows for one thing.
    let mut lines: Vec<_> =
        rows.iter().map(|row| skep_print::shown::one_line(&(column.cell)(row))).collect();
    lines.dedup();
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Returns a row as docker prints it with `--format json`: every field, as text.
fn object<R: Row>(row: &R) -> Value {
    let text = |column: &Column<R>| Value::String((column.cell)(row));
    let mut object: Value = fields::<R>().map(|(field, it)| (field.to_owned(), text(it))).collect();
    object.sort_all_objects();
    object
}

fn fields<R: Row>() -> impl Iterator<Item = (&'static str, &'static Column<R>)> {
    R::COLUMNS.iter().filter_map(|column| Some((column.field?, column)))
}

/// Returns the names of the fields as templates have them.
fn field_names<R: Row>() -> String {
    fields::<R>().map(|(field, _)| format!(".{field}")).collect::<Vec<_>>().join(" ")
}

fn quiet_help<R: Row>() -> &'static str {
    if R::ID == "ID" { "Print IDs only" } else { "Print names only" }
}

fn fields_help<R: Row>() -> String {
    format!("Fields for --format: {}", field_names::<R>())
}
