//! A parsed template.

use super::value::Value;

/// Part of a template, with its place in the text.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    /// What decides, what follows if so, what follows if not.
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Call(usize, String, Option<Pipe>),
    Break,
    Continue,
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) assigns: bool,
    pub(super) names: Vec<String>,
    pub(super) commands: Vec<Command>,
}

/// A command: what is called or looked up, and arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) args: Vec<Term>,
}

/// A word of a command.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) at: usize,
    pub(super) kind: TermKind,
}

#[derive(Debug, Clone)]
pub(super) enum TermKind {
    Dot,
    Nil,
    /// A constant, and how it was written.
    Constant(Value, String),
    Field(Vec<String>),
    Variable(Vec<String>),
    Function(String),
    Pipe(Box<Pipe>),
    Chain(Box<Term>, Vec<String>),
}

impl Term {
    /// Returns the term as errors show it.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            TermKind::Dot => ".".to_owned(),
            TermKind::Nil => "nil".to_owned(),
            TermKind::Constant(_, text) => text.clone(),
            TermKind::Field(names) => names.iter().map(|name| format!(".{name}")).collect(),
            TermKind::Variable(names) => names.join("."),
            TermKind::Function(name) => name.clone(),
            TermKind::Pipe(pipe) => format!("({})", pipe.shown()),
            TermKind::Chain(term, names) => {
                let names: String = names.iter().map(|name| format!(".{name}")).collect();
                format!("{}{names}", term.shown())
            }
        }
    }
}

impl Command {
    /// Returns the command as errors show it.
    pub(super) fn shown(&self) -> String {
        self.args.iter().map(Term::shown).collect::<Vec<_>>().join(" ")
    }
}

impl Pipe {
    /// Returns the pipe as errors show it.
    pub(super) fn shown(&self) -> String {
        let commands: Vec<_> = self.commands.iter().map(Command::shown).collect();
        let commands = commands.join(" | ");
        if self.names.is_empty() {
            return commands;
        }
        let mark = if self.assigns { "=" } else { ":=" };
        format!("{} {mark} {commands}", self.names.join(", "))
    }
}
