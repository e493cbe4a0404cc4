//! `--format` of lists: Go templates, as docker has them.

use std::rc::Rc;

use gotemplate::{Function, Struct, Template, Value};
use skep_print::{
    shown::one_line,
    tabwriter::{COLUMNS, align},
};

use super::{Row, field_names, fields};
use crate::error::CliError;

/// The functions beside those of Go's text/template; docker has them too.
const FUNCTIONS: [(&str, Function); 3] = [
    ("json", |value| {
        let mut json = value.to_json();
        json.sort_all_objects();
        Ok(Value::Text(json.to_string()))
    }),
    ("lower", |value| text(value).map(|text| Value::Text(text.to_lowercase()))),
    ("upper", |value| text(value).map(|text| Value::Text(text.to_uppercase()))),
];

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err("the value is not text".to_owned()),
    }
}

/// What Go would call the type of a row.
const TYPE: &str = "row";

/// A template, and whether its columns line up below headers.
pub(super) struct Format {
    template: Template,
    is_table: bool,
}

impl Format {
    /// Reads a format for rows of a list.
    pub(super) fn parse<R: Row>(text: &str) -> Result<Self, CliError> {
        let table = text.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\\', '\t']));
        let plain = table.unwrap_or(text).trim_matches(' ');
        if !plain.contains("{{") {
            let field = R::NAME;
            return Err(CliError::usage(format!(
                "--format {text}: write a Go template, for example '{{{{.{field}}}}}', or json or table"
            ))
            .hint("run the same command with -o json|yaml|wide|name"));
        }
        let plain = plain.replace("\\t", "\t").replace("\\n", "\n") + "\n";
        let template = Template::parse(&plain, &FUNCTIONS).map_err(refused)?;
        let format = Self { template, is_table: table.is_some() };
        // A field that no list of this kind has is known before there are rows. All else may depend on them.
        if let Err(error) =
            format.template.execute(&value::<R>(|_| String::new()), &mut String::new())
            && let Some((_, rest)) = error.split_once("can't evaluate field ")
            && let Some(field) = rest.strip_suffix(&format!(" in type {TYPE}"))
        {
            let fields = field_names::<R>();
            return Err(CliError::usage(format!(
                "--format: there is no field .{field}; use {fields}"
            )));
        }
        Ok(format)
    }

    /// Prints rows.
    pub(super) fn text<R: Row>(&self, rows: &[R]) -> Result<String, CliError> {
        let mut text = String::new();
        if self.is_table {
            let header = value::<R>(|column| column.header.to_owned());
            self.template.execute(&header, &mut text).map_err(refused)?;
        }
        for row in rows {
            let row = value::<R>(|column| match self.is_table {
                true => one_line(&(column.cell)(row)),
                false => (column.cell)(row),
            });
            self.template.execute(&row, &mut text).map_err(refused)?;
        }
        if self.is_table {
            let aligned = align(&text, COLUMNS);
            text = aligned.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        }
        Ok(text)
    }
}

fn value<R: Row>(text: impl Fn(&super::Column<R>) -> String) -> Value {
    let fields = fields::<R>().map(|(field, column)| (field, Value::Text(text(column)))).collect();
    Value::Struct(Rc::new(Struct { name: TYPE, fields }))
}

fn refused(error: String) -> CliError {
    CliError::usage(format!("--format: {error}"))
}
