//! From tokens to a template, with the rules and the errors of Go's text/template/parse.

use std::collections::BTreeMap;

use super::lex::{Kind, Token, lex};
use super::literal;
use super::node::{Command, Node, Pipe, Term, TermKind};

/// How deep actions and parentheses may be nested.
const DEPTH: usize = 200;

/// A parsed text: what it is, and the templates that it defines.
pub(super) struct Parsed {
    pub(super) main: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

/// Parses a text; `is_function` tells which functions there are.
pub(super) fn parse(text: &str, is_function: &dyn Fn(&str) -> bool) -> Result<Parsed, String> {
    let mut parser = Parser {
        tokens: lex(text),
        next: 0,
        last_line: 1,
        action_line: 0,
        loops: 0,
        depth: 0,
        names: vec!["$".to_owned()],
        defined: BTreeMap::new(),
        is_function,
    };
    let main = parser.top()?;
    Ok(Parsed { main, defined: parser.defined })
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    last_line: usize,
    action_line: usize,
    loops: usize,
    depth: usize,
    /// The variables that are known.
    names: Vec<String>,
    defined: BTreeMap<String, Vec<Node>>,
    is_function: &'a dyn Fn(&str) -> bool,
}

/// What ends a list of nodes.
#[derive(PartialEq)]
enum Ending {
    End,
    Else,
}

impl Parser<'_> {
    fn take(&mut self) -> Token {
        let token = self.peek();
        self.last_line = token.line;
        // The last token stays: it is the end or an error.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn peek(&self) -> Token {
        self.tokens[self.next].clone()
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.take();
        }
    }

    fn take_solid(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn error<T>(&self, text: impl AsRef<str>) -> Result<T, String> {
        Err(format!("template: :{}: {}", self.last_line, text.as_ref()))
    }

    fn unexpected<T>(&mut self, token: &Token, context: &str) -> Result<T, String> {
        self.last_line = token.line;
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {} in {context}", token.shown()));
        }
        let mut started = String::new();
        if self.action_line != 0 && self.action_line != token.line {
            started = format!(" in action started at :{}", self.action_line);
            if token.text.ends_with(" action") {
                started = started[" in action".len()..].to_owned();
            }
        }
        self.error(format!("{}{started}", token.shown()))
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH { self.error("nested too deep") } else { Ok(()) }
    }

    fn top(&mut self) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        loop {
            let token = self.peek();
            if token.kind == Kind::End {
                return Ok(nodes);
            }
            if token.kind == Kind::Left {
                let begin = self.next;
                self.take();
                if self.keyword_is("define") {
                    self.definition()?;
                    continue;
                }
                self.next = begin;
            }
            match self.node()? {
                Ok(node) => nodes.push(node),
                Err(Ending::End) => return self.error("unexpected {{end}}"),
                Err(Ending::Else) => return self.error("unexpected {{else}}"),
            }
        }
    }

    fn keyword_is(&mut self, word: &str) -> bool {
        self.skip_space();
        let token = self.peek();
        token.kind == Kind::Keyword && token.text == word
    }

    fn definition(&mut self) -> Result<(), String> {
        self.take();
        let name = self.template_name("define clause")?;
        let right = self.take_solid();
        if right.kind != Kind::Right {
            return self.unexpected(&right, "define clause");
        }
        let names = std::mem::replace(&mut self.names, vec!["$".to_owned()]);
        let (nodes, ending) = self.list()?;
        if ending == Ending::Else {
            return self.error("unexpected {{else}} in define clause");
        }
        self.names = names;
        self.defined.insert(name, nodes);
        Ok(())
    }

    fn template_name(&mut self, context: &str) -> Result<String, String> {
        let token = self.take_solid();
        match token.kind {
            Kind::Quoted | Kind::Raw => {
                literal::text(&token).or_else(|problem| self.error(problem))
            }
            _ => self.unexpected(&token, context),
        }
    }

    fn list(&mut self) -> Result<(Vec<Node>, Ending), String> {
        self.enter()?;
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::End {
            match self.node()? {
                Ok(node) => nodes.push(node),
                Err(ending) => {
                    self.depth -= 1;
                    return Ok((nodes, ending));
                }
            }
        }
        self.last_line = self.peek().line;
        self.error("unexpected EOF")
    }

    /// Parses the next node, or what ends the list.
    fn node(&mut self) -> Result<Result<Node, Ending>, String> {
        let token = self.take();
        match token.kind {
            Kind::Text => Ok(Ok(Node::Text(token.text))),
            Kind::Left => {
                self.action_line = token.line;
                let node = self.action();
                self.action_line = 0;
                node
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Result<Result<Node, Ending>, String> {
        self.skip_space();
        let token = self.peek();
        if token.kind != Kind::Keyword || token.text == "nil" {
            let pipe = self.pipeline("command", Kind::Right)?;
            return Ok(Ok(Node::Action(pipe)));
        }
        self.take();
        let node = match token.text.as_str() {
            "end" => {
                self.right("end")?;
                return Ok(Err(Ending::End));
            }
            "else" => {
                self.skip_space();
                // `{{else if}}`: the `if` is left to whoever asked.
                if !self.keyword_is("if") {
                    self.right("else")?;
                }
                return Ok(Err(Ending::Else));
            }
            "if" => self.branch("if", Node::If)?,
            "with" => self.branch("with", Node::With)?,
            "range" => self.branch("range", Node::Range)?,
            "template" => self.call()?,
            "block" => self.block()?,
            word @ ("break" | "continue") => {
                let right = self.take_solid();
                if right.kind != Kind::Right {
                    return self.unexpected(&right, &format!("{{{{{word}}}}}"));
                }
                if self.loops == 0 {
                    return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            _ => return self.unexpected(&token, "command"),
        };
        Ok(Ok(node))
    }

    fn right(&mut self, context: &str) -> Result<(), String> {
        let token = self.take_solid();
        if token.kind == Kind::Right { Ok(()) } else { self.unexpected(&token, context) }
    }

    fn branch(
        &mut self,
        context: &str,
        make: fn(Pipe, Vec<Node>, Vec<Node>) -> Node,
    ) -> Result<Node, String> {
        let known = self.names.len();
        let pipe = self.pipeline(context, Kind::Right)?;
        let is_loop = usize::from(context == "range");
        self.loops += is_loop;
        let (nodes, ending) = self.list()?;
        self.loops -= is_loop;
        let mut otherwise = Vec::new();
        if ending == Ending::Else {
            if context == "if" && self.keyword_is("if") {
                self.take();
                self.enter()?;
                otherwise = vec![self.branch("if", Node::If)?];
                self.depth -= 1;
            } else {
                let (nodes, ending) = self.list()?;
                if ending == Ending::Else {
                    return self.error("expected end; found {{else}}");
                }
                otherwise = nodes;
            }
        }
        self.names.truncate(known);
        Ok(make(pipe, nodes, otherwise))
    }

    fn call(&mut self) -> Result<Node, String> {
        let at = self.peek().at;
        let name = self.template_name("template clause")?;
        self.skip_space();
        if self.peek().kind == Kind::Right {
            self.take();
            return Ok(Node::Call(at, name, None));
        }
        Ok(Node::Call(at, name, Some(self.pipeline("template clause", Kind::Right)?)))
    }

    fn block(&mut self) -> Result<Node, String> {
        let at = self.peek().at;
        let name = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", Kind::Right)?;
        let names = std::mem::replace(&mut self.names, vec!["$".to_owned()]);
        let (nodes, ending) = self.list()?;
        if ending == Ending::Else {
            return self.error("unexpected {{else}} in block clause");
        }
        self.names = names;
        self.defined.insert(name.clone(), nodes);
        Ok(Node::Call(at, name, Some(pipe)))
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        self.enter()?;
        self.skip_space();
        let mut pipe =
            Pipe { at: self.peek().at, assigns: false, names: Vec::new(), commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.take_solid();
            if token.kind == end {
                if pipe.commands.is_empty() {
                    return self.error(format!("missing value for {context}"));
                }
                for command in &pipe.commands[1..] {
                    let first = &command.args[0];
                    if !is_callable(first) {
                        let stage = pipe.commands.iter().position(|it| it.at == command.at);
                        let stage = stage.unwrap_or(0) + 1;
                        let shown = first.shown();
                        return self.error(format!(
                            "non executable command in pipeline stage {stage}: {shown}"
                        ));
                    }
                }
                for name in &pipe.names {
                    if !pipe.assigns {
                        self.names.push(name.clone());
                    }
                }
                self.depth -= 1;
                return Ok(pipe);
            }
            if matches!(
                token.kind,
                Kind::Bool
                    | Kind::Char
                    | Kind::Dot
                    | Kind::Field
                    | Kind::Identifier
                    | Kind::Number
                    | Kind::Raw
                    | Kind::Quoted
                    | Kind::Variable
                    | Kind::Open
            ) || (token.kind == Kind::Keyword && token.text == "nil")
            {
                self.next -= 1;
                let command = self.command()?;
                pipe.commands.push(command);
            } else {
                return self.unexpected(&token, context);
            }
        }
    }

    /// Parses `$x :=`, `$x =`, and in a range `$x, $y :=`.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<(), String> {
        loop {
            self.skip_space();
            let begin = self.next;
            let variable = self.peek();
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            self.take();
            self.skip_space();
            let mark = self.peek();
            match mark.kind {
                Kind::Assign | Kind::Declare => {
                    self.take();
                    pipe.assigns = mark.kind == Kind::Assign;
                    pipe.names.push(variable.text);
                    return Ok(());
                }
                Kind::Comma => {
                    self.take();
                    pipe.names.push(variable.text);
                    self.skip_space();
                    let fits = context == "range"
                        && pipe.names.len() < 2
                        && self.peek().kind == Kind::Variable;
                    if !fits {
                        return self.error(format!("too many declarations in {context}"));
                    }
                }
                _ => {
                    self.next = begin;
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self) -> Result<Command, String> {
        let mut command = Command { at: self.peek().at, args: Vec::new() };
        loop {
            self.skip_space();
            if let Some(term) = self.operand()? {
                command.args.push(term);
            }
            let token = self.take();
            match token.kind {
                Kind::Space => continue,
                Kind::Right | Kind::Close => self.next -= 1,
                Kind::Pipe => {
                    self.skip_space();
                    if self.peek().kind == Kind::Right {
                        return self.error("missing value for command");
                    }
                }
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if command.args.is_empty() { self.error("empty command") } else { Ok(command) }
    }

    fn operand(&mut self) -> Result<Option<Term>, String> {
        let Some(term) = self.term()? else { return Ok(None) };
        let at = self.peek().at;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.take().text[1..].to_owned());
        }
        if names.is_empty() {
            return Ok(Some(term));
        }
        let kind = match term.kind {
            TermKind::Field(first) => TermKind::Field([first, names].concat()),
            TermKind::Variable(first) => TermKind::Variable([first, names].concat()),
            TermKind::Nil | TermKind::Constant(..) => {
                let shown = term.shown();
                return self.error(format!("unexpected . after term {shown:?}"));
            }
            _ => TermKind::Chain(Box::new(term), names),
        };
        Ok(Some(Term { at, kind }))
    }

    fn constant(&self, token: &Token) -> Result<TermKind, String> {
        match literal::constant(token) {
            Ok(value) => Ok(TermKind::Constant(value, token.text.clone())),
            Err(problem) => self.error(problem),
        }
    }

    fn term(&mut self) -> Result<Option<Term>, String> {
        let token = self.peek();
        let at = token.at;
        let kind = match token.kind {
            Kind::Identifier => {
                self.take();
                if !(self.is_function)(&token.text) {
                    return self.error(format!("function {:?} not defined", token.text));
                }
                TermKind::Function(token.text)
            }
            Kind::Dot => TermKind::Dot,
            Kind::Keyword if token.text == "nil" => TermKind::Nil,
            Kind::Variable => {
                if !self.names.contains(&token.text) {
                    self.take();
                    return self.error(format!("undefined variable {:?}", token.text));
                }
                TermKind::Variable(vec![token.text.clone()])
            }
            Kind::Field => TermKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => self.constant(&token)?,
            Kind::Number => self.constant(&token)?,
            Kind::Char => self.constant(&token)?,
            Kind::Quoted | Kind::Raw => self.constant(&token)?,
            Kind::Open => {
                self.take();
                let pipe = self.pipeline("parenthesized pipeline", Kind::Close)?;
                return Ok(Some(Term { at, kind: TermKind::Pipe(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        if token.kind != Kind::Identifier {
            self.take();
        }
        Ok(Some(Term { at, kind }))
    }
}

fn is_callable(term: &Term) -> bool {
    !matches!(term.kind, TermKind::Dot | TermKind::Nil | TermKind::Constant(..))
}
