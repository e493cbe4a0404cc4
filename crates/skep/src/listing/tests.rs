//! A list of fruits in each format, from the words of a command line to the text.

use clap::{CommandFactory, FromArgMatches, Parser};
use serde_json::json;

use super::*;

#[derive(Debug)]
struct Fruit {
    name: &'static str,
    color: &'static str,
}

impl Row for Fruit {
    const NAME: &'static str = "Name";
    const ID: &'static str = "ID";
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("FRUIT", "Name", |it| it.name.to_owned()),
        Column::new("COLOR", "Color", |it| it.color.to_owned()),
        Column::without_field("TASTE", |_| "good".to_owned()),
        Column::wide("NUMBER", "ID", |it| it.name.len().to_string()),
        Column::only_named("LOUD", "Loud", |it| it.name.to_uppercase()),
    ];
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    verbosity: crate::cli::Verbosity,
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// List fruits.
    Ls(FruitList),
}

#[derive(Debug, Args)]
struct FruitList {
    #[command(flatten)]
    listing: Listing<Fruit>,
}

const FRUITS: [Fruit; 2] =
    [Fruit { name: "apple", color: "red\x1b[2J" }, Fruit { name: "fig", color: "<blue>" }];

fn read(words: &[&str]) -> Result<Line, clap::Error> {
    let mut command = Line::command();
    let matches = command.try_get_matches_from_mut([&["fruits"], words].concat())?;
    Line::from_arg_matches(&matches)
}

fn try_list(words: &[&str]) -> Result<String, CliError> {
    let Sub::Ls(FruitList { listing }) = read(words).unwrap().command;
    listing.printer()?.how.text(&FRUITS, || json!({"fruits": 2}))
}

fn list(words: &[&str]) -> String {
    try_list(words).unwrap()
}

#[test]
fn each_format_is_made_of_the_same_columns() {
    assert_eq!(
        list(&["ls"]),
        "FRUIT   COLOR        TASTE\napple   red\\x1b[2J   good\nfig     <blue>       good\n"
    );
    let wide = list(&["ls", "-o", "wide"]);
    assert!(wide.starts_with("FRUIT   COLOR        TASTE   NUMBER\n"), "{wide}");
    assert_eq!(list(&["ls", "-o", "name"]), "apple\nfig\n");
    assert_eq!(list(&["ls", "-o", "json"]), "{\n  \"fruits\": 2\n}\n");
    assert_eq!(list(&["ls", "-o", "yaml"]), "fruits: 2\n");
}

#[test]
fn quiet_prints_ids_wherever_it_stands_but_a_chosen_format_counts_more() {
    for words in [["ls", "-q"], ["-q", "ls"], ["ls", "--quiet"]] {
        assert_eq!(list(&words), "5\n3\n", "{words:?}");
        assert!(read(&words).unwrap().verbosity.quiet, "{words:?}");
    }
    assert_eq!(list(&["ls", "-q", "-o", "wide"]), "5\n3\n");
    assert_eq!(list(&["ls", "-q", "-o", "name"]), "apple\nfig\n");
    assert_eq!(list(&["-q", "ls", "-o", "yaml"]), "fruits: 2\n");
    assert_eq!(list(&["ls", "-q", "--format", "{{.Color}}"]), "red\\x1b[2J\n<blue>\n");
}

#[test]
fn templates_are_dockers() {
    let format = |text: &str| list(&["ls", "--format", text]);
    assert_eq!(format("{{.Name}}\\t{{.Loud}}"), "apple\tAPPLE\nfig\tFIG\n");
    assert_eq!(format("table {{.Name}}\\t{{.ID}}"), "FRUIT   NUMBER\napple   5\nfig     3\n");
    assert_eq!(format("table {{upper .Name}}"), "FRUIT\nAPPLE\nFIG\n");
    assert_eq!(format("table"), list(&["ls"]));
    let objects = "{\"Color\":\"red\\u001b[2J\",\"ID\":\"5\",\"Loud\":\"APPLE\",\"Name\":\"apple\"}\n\
                   {\"Color\":\"<blue>\",\"ID\":\"3\",\"Loud\":\"FIG\",\"Name\":\"fig\"}\n";
    assert_eq!(format("json"), objects);
    assert_eq!(format("{{json .}}"), objects);
    assert_eq!(format("{{if eq .Name \"fig\"}}{{json .Color}}{{end}}"), "\n\"<blue>\"\n");
}

#[test]
fn a_template_that_cannot_be_right_is_refused_before_there_are_rows() {
    let refused = |text: &str| {
        let Sub::Ls(FruitList { listing }) = read(&["ls", "--format", text]).unwrap().command;
        listing.printer().err().map(|error| error.message).unwrap_or_default()
    };
    let fields = ".Name .Color .ID .Loud";
    for text in ["{{.Taste}}", "table {{.Name}} {{.Taste}}"] {
        assert_eq!(refused(text), format!("--format: there is no field .Taste; use {fields}"));
    }
    assert!(refused("{{.Name").contains("unclosed action"), "{}", refused("{{.Name"));
    assert!(refused("wide").contains("for example '{{.Name}}'"), "{}", refused("wide"));
    assert!(refused("tables").contains("write a Go template"));
    // Whether this is right depends on the rows.
    assert_eq!(refused("{{slice .Name 0 3}}"), "");
    let error = try_list(&["ls", "--format", "{{slice .Name 0 4}}"]).unwrap_err();
    assert!(error.message.starts_with("--format: template: "), "{}", error.message);
    assert!(read(&["ls", "-o", "json", "--format", "{{.Name}}"]).is_err());
}

#[test]
fn the_help_says_what_quiet_means_and_lists_the_fields() {
    let mut line = Line::command();
    line.build();
    let help = line.find_subcommand_mut("ls").unwrap().render_help().to_string();
    assert!(help.starts_with("List fruits"), "{help}");
    assert!(help.contains("Print IDs only") && !help.contains("Suppress"), "{help}");
    assert!(help.ends_with("Fields for --format: .Name .Color .ID .Loud\n"), "{help}");
}
