//! Carrying a template out.

use std::collections::BTreeMap;

use super::field::look_up;
use super::funcs::{self, Function};
use super::node::{Command, Node, Pipe, Term, TermKind};
use super::parse::parse;
use super::print::print;
use super::value::Value;

/// How deep templates may call each other.
const DEPTH: usize = 100;

/// A template, ready to be carried out.
pub struct Template {
    text: String,
    main: Vec<Node>,
    defined: BTreeMap<String, Vec<Node>>,
    extra: Vec<(&'static str, Function)>,
}

/// A value, and whether Go would have it in an empty interface: what is said of it depends on that.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) boxed: bool,
}

impl Found {
    fn plain(value: Value) -> Self {
        Self { value, boxed: false }
    }

    pub(super) fn boxed(value: Value) -> Self {
        Self { value, boxed: true }
    }
}

/// What ends a list of nodes before its end.
enum Stop {
    Error(String),
    Break,
    Continue,
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Error(text)
    }
}

impl Template {
    /// Parses a template that may use these functions beside the built-in ones.
    ///
    /// # Errors
    ///
    /// If the text is no template; in Go's words.
    pub fn parse(text: &str, extra: &[(&'static str, Function)]) -> Result<Self, String> {
        let known =
            |name: &str| funcs::is_builtin(name) || extra.iter().any(|(other, _)| *other == name);
        let parsed = parse(text, &known)?;
        Ok(Self {
            text: text.to_owned(),
            main: parsed.main,
            defined: parsed.defined,
            extra: extra.to_vec(),
        })
    }

    /// Carries the template out on a value; what was written before an error stays in `out`.
    ///
    /// # Errors
    ///
    /// If something is not there or does not fit; in Go's words.
    pub fn execute(&self, value: &Value, out: &mut String) -> Result<(), String> {
        let mut run = Run {
            template: self,
            name: "",
            variables: vec![("$".to_owned(), Found::plain(value.clone()))],
            out,
            depth: 0,
        };
        match run.list(&Found::plain(value.clone()), &self.main) {
            Err(Stop::Error(text)) => Err(text),
            _ => Ok(()),
        }
    }
}

struct Run<'a> {
    template: &'a Template,
    /// The defined template that is carried out.
    name: &'a str,
    variables: Vec<(String, Found)>,
    out: &'a mut String,
    depth: usize,
}

impl<'a> Run<'a> {
    fn error<T>(&self, at: usize, context: &str, text: impl AsRef<str>) -> Result<T, String> {
        let before = &self.template.text[..at.min(self.template.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
        let name = self.name;
        Err(format!(
            "template: {name}:{line}:{column}: executing {name:?} at <{context}>: {}",
            text.as_ref()
        ))
    }

    fn list(&mut self, dot: &Found, nodes: &'a [Node]) -> Result<(), Stop> {
        let known = self.variables.len();
        for node in nodes {
            self.node(dot, node)?;
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn node(&mut self, dot: &Found, node: &'a Node) -> Result<(), Stop> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.names.is_empty() {
                    self.out.push_str(&print(&value));
                }
            }
            Node::If(pipe, nodes, otherwise) => {
                let known = self.variables.len();
                let value = self.pipe(dot, pipe)?;
                self.list(dot, if value.truth() { nodes } else { otherwise })?;
                self.variables.truncate(known);
            }
            Node::With(pipe, nodes, otherwise) => {
                let known = self.variables.len();
                let value = self.pipe(dot, pipe)?;
                match value.truth() {
                    true => self.list(&Found::plain(value), nodes)?,
                    false => self.list(dot, otherwise)?,
                }
                self.variables.truncate(known);
            }
            Node::Range(pipe, nodes, otherwise) => self.range(dot, pipe, nodes, otherwise)?,
            Node::Call(at, name, pipe) => self.call(dot, *at, name, pipe.as_ref())?,
            Node::Break => return Err(Stop::Break),
            Node::Continue => return Err(Stop::Continue),
        }
        Ok(())
    }

    fn range(
        &mut self,
        dot: &Found,
        pipe: &'a Pipe,
        nodes: &'a [Node],
        otherwise: &'a [Node],
    ) -> Result<(), Stop> {
        let known = self.variables.len();
        let value = self.pipe_value(dot, pipe)?;
        let text = |key: &String| Value::Text(key.clone());
        let entries: Vec<(Value, Found)> = match &value {
            Value::List(list) => {
                let numbers = (0..).map(Value::Int);
                numbers.zip(list.iter().cloned().map(Found::boxed)).collect()
            }
            Value::Map(map) => {
                map.iter().map(|(key, value)| (text(key), Found::boxed(value.clone()))).collect()
            }
            Value::TextMap(map) => {
                map.iter().map(|(key, value)| (text(key), Found::plain(text(value)))).collect()
            }
            Value::Missing | Value::Null => Vec::new(),
            other => {
                let text = format!("range can't iterate over {}", print(other));
                return Err(self.error::<()>(pipe.at, &pipe.shown(), text).unwrap_err().into());
            }
        };
        if entries.is_empty() {
            self.list(dot, otherwise)?;
        }
        for (key, element) in entries {
            self.variables.truncate(known);
            match &pipe.names[..] {
                [one] => self.bind(pipe, one, element.clone()),
                [first, second] => {
                    self.bind(pipe, first, Found::plain(key));
                    self.bind(pipe, second, element.clone());
                }
                _ => {}
            }
            match self.list(&element, nodes) {
                Err(Stop::Break) => break,
                Err(Stop::Continue) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn call(
        &mut self,
        dot: &Found,
        at: usize,
        name: &'a str,
        pipe: Option<&'a Pipe>,
    ) -> Result<(), Stop> {
        let context = format!("{{{{template {name:?}}}}}");
        let template = self.template;
        let Some(nodes) = template.defined.get(name) else {
            let text = format!("template {name:?} not defined");
            return Err(self.error::<()>(at, &context, text).unwrap_err().into());
        };
        if self.depth == DEPTH {
            let text = "exceeded maximum template depth";
            return Err(self.error::<()>(at, &context, text).unwrap_err().into());
        }
        let value = match pipe {
            Some(pipe) => Found::plain(self.pipe(dot, pipe)?),
            None => Found::plain(Value::Missing),
        };
        let variables = vec![("$".to_owned(), value.clone())];
        let outer = (std::mem::replace(&mut self.variables, variables), self.name);
        self.name = name;
        self.depth += 1;
        self.list(&value, nodes)?;
        self.depth -= 1;
        (self.variables, self.name) = outer;
        Ok(())
    }

    fn bind(&mut self, pipe: &Pipe, name: &str, value: Found) {
        if pipe.assigns {
            let known = self.variables.iter_mut().rev().find(|(other, _)| other == name);
            if let Some((_, old)) = known {
                *old = value;
            }
        } else {
            self.variables.push((name.to_owned(), value));
        }
    }

    /// Returns a pipe's value and gives it to the pipe's variable.
    fn pipe(&mut self, dot: &Found, pipe: &Pipe) -> Result<Value, String> {
        let value = self.pipe_value(dot, pipe)?;
        for name in &pipe.names {
            self.bind(pipe, name, Found::plain(value.clone()));
        }
        Ok(value)
    }

    fn pipe_value(&mut self, dot: &Found, pipe: &Pipe) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            let found = self.command(dot, command, value.take())?;
            // An interface is opened between commands.
            value = Some(match found.value {
                Value::Null => Value::Missing,
                other => other,
            });
        }
        Ok(value.unwrap_or(Value::Missing))
    }

    fn command(
        &mut self,
        dot: &Found,
        command: &Command,
        last: Option<Value>,
    ) -> Result<Found, String> {
        let first = &command.args[0];
        let has_args = command.args.len() > 1 || last.is_some();
        match &first.kind {
            TermKind::Function(name) => self.function(dot, command, name, last),
            TermKind::Field(names) => self.fields(first, dot.clone(), names, has_args),
            TermKind::Variable(names) => {
                let (name, names) = names.split_first().map_or(("$", &[][..]), |(a, b)| (a, b));
                if has_args && names.is_empty() {
                    let text = format!("can't give argument to non-function {}", first.shown());
                    return self.error(first.at, &first.shown(), text);
                }
                let value = self.variable(name);
                self.fields(first, value, names, has_args)
            }
            TermKind::Chain(term, names) => {
                let value = self.term(dot, term)?;
                self.fields(first, value, names, has_args)
            }
            _ if has_args => {
                let text = format!("can't give argument to non-function {}", first.shown());
                self.error(first.at, &first.shown(), text)
            }
            TermKind::Nil => self.error(first.at, "nil", "nil is not a command"),
            _ => self.term(dot, first),
        }
    }

    fn term(&mut self, dot: &Found, term: &Term) -> Result<Found, String> {
        match &term.kind {
            TermKind::Dot => Ok(dot.clone()),
            TermKind::Nil => Ok(Found::boxed(Value::Null)),
            TermKind::Constant(value, _) => Ok(Found::plain(value.clone())),
            TermKind::Pipe(pipe) => Ok(Found::plain(self.pipe(dot, pipe)?)),
            _ => {
                let command = Command { at: term.at, args: vec![term.clone()] };
                self.command(dot, &command, None)
            }
        }
    }

    fn variable(&self, name: &str) -> Found {
        let found = self.variables.iter().rev().find(|(other, _)| other == name);
        found.map_or_else(|| Found::plain(Value::Missing), |(_, value)| value.clone())
    }

    fn fields(
        &self,
        term: &Term,
        mut value: Found,
        names: &[String],
        has_args: bool,
    ) -> Result<Found, String> {
        for (index, name) in names.iter().enumerate() {
            let called = has_args && index + 1 == names.len();
            value = match look_up(&value, name, called) {
                Ok(found) => found,
                Err(text) => return self.error(term.at, &term.shown(), text),
            };
        }
        Ok(value)
    }

    fn function(
        &mut self,
        dot: &Found,
        command: &Command,
        name: &str,
        last: Option<Value>,
    ) -> Result<Found, String> {
        let first = &command.args[0];
        let terms = &command.args[1..];
        if name == "and" || name == "or" {
            return self.shortcut(dot, first, terms, name == "or", last);
        }
        let mut args = Vec::new();
        for term in terms {
            args.push(self.term(dot, term)?.value);
        }
        args.extend(last);
        let extra = self.template.extra.iter().find(|(other, _)| *other == name);
        let (least, most) = extra.map_or_else(|| funcs::arity(name), |_| (1, Some(1)));
        if args.len() < least || most.is_some_and(|most| args.len() > most) {
            let least =
                if most == Some(least) { least.to_string() } else { format!("at least {least}") };
            let text = format!("wrong number of args for {name}: want {least} got {}", args.len());
            return self.error(first.at, name, text);
        }
        let result = match extra {
            Some((_, function)) => function(&args[0]),
            None => funcs::call(name, &args),
        };
        match result {
            Ok(value) => Ok(Found::plain(value)),
            Err(text) => {
                self.error(command.at, &command.shown(), format!("error calling {name}: {text}"))
            }
        }
    }

    /// `and` and `or` look at no more arguments than they need.
    fn shortcut(
        &mut self,
        dot: &Found,
        first: &Term,
        terms: &[Term],
        stops_at: bool,
        last: Option<Value>,
    ) -> Result<Found, String> {
        let mut value = None;
        for term in terms {
            let found = self.term(dot, term)?.value;
            let stops = found.truth() == stops_at;
            value = Some(found);
            if stops {
                return Ok(Found::plain(value.unwrap_or(Value::Missing)));
            }
        }
        match last.or(value) {
            Some(value) => Ok(Found::plain(value)),
            None => {
                let name = first.shown();
                let text = format!("wrong number of args for {name}: want at least 1 got 0");
                self.error(first.at, &name, text)
            }
        }
    }
}
