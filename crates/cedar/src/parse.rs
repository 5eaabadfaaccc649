//! The grammar: words to policies.
//!
//! Invariant: what nests, nests at most [`DEPTH_MAX`] deep, so that reading, checking, asking and forgetting a policy all fit on any
//! stack. A policy has at most [`NODES_MAX`] parts, so that asking it has a bound.

use crate::ast::*;
use crate::lex::{Token, fault, words};
use crate::schema::{Action, Kind};
use crate::{BYTES_MAX, Fault, POLICIES_MAX};

const DEPTH_MAX: usize = 32;
const NODES_MAX: usize = 4_096;
const ID_CHARS_MAX: usize = 64;
/// Signs before one thing, as in Cedar.
const SIGNS_MAX: usize = 4;
const RESERVED: [&str; 9] = ["true", "false", "if", "then", "else", "in", "is", "like", "has"];

/// Where the parts of a policy stand that are checked by themselves.
pub(crate) type Read = (Policy, Places);

/// What a fault of sense is told of.
pub(crate) struct Places {
    pub(crate) head: Fault,
    /// Of every place in its conditions, in the order of the text.
    pub(crate) lines: std::rc::Rc<str>,
}

pub(crate) fn policies(text: &str) -> Result<Vec<Read>, Fault> {
    if text.len() > BYTES_MAX {
        return Err(fault("", 0, format!("the text has {} bytes; at most {BYTES_MAX} are read", text.len())));
    }
    let mut parser = Parser { text, words: words(text)?, next: 0, nodes: 0 };
    let lines: std::rc::Rc<str> = text.into();
    let mut policies: Vec<Read> = Vec::new();
    while parser.token() != &Token::End {
        let at = parser.at();
        if policies.len() == POLICIES_MAX {
            return Err(parser.fault(at, format!("more than {POLICIES_MAX} policies")));
        }
        parser.nodes = 0;
        let policy = parser.policy(policies.len())?;
        if policies.iter().any(|(other, _)| other.id == policy.id) {
            return Err(parser.fault(at, format!("two policies have the id {:?}", policy.id)));
        }
        let head = parser.fault(at, "");
        policies.push((policy, Places { head, lines: lines.clone() }));
    }
    Ok(policies)
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<(Place, Token)>,
    next: usize,
    nodes: usize,
}

type Parsed<T> = Result<T, Fault>;

impl Parser<'_> {
    fn token(&self) -> &Token {
        self.words.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> Place {
        self.words.get(self.next).map_or(self.text.len(), |(at, _)| *at)
    }

    fn fault(&self, at: Place, words: impl Into<String>) -> Fault {
        fault(self.text, at, words)
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        let found = match self.token() {
            Token::Name(name) => format!("{name:?}"),
            Token::Text(_) => "a text".to_owned(),
            Token::Number(number) => number.to_string(),
            Token::Sign(sign) => format!("{sign:?}"),
            Token::End => "the end".to_owned(),
        };
        Err(self.fault(self.at(), format!("expected {what}, found {found}")))
    }

    fn takes(&mut self, sign: &'static str) -> bool {
        let is = *self.token() == Token::Sign(sign);
        self.next += usize::from(is);
        is
    }

    fn sign(&mut self, sign: &'static str) -> Parsed<()> {
        if self.takes(sign) { Ok(()) } else { self.expected(&format!("{sign:?}")) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.token(), Token::Name(name) if name == word)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.next += usize::from(is);
        is
    }

    fn word(&mut self, word: &str) -> Parsed<()> {
        if self.takes_word(word) { Ok(()) } else { self.expected(&format!("{word:?}")) }
    }

    fn name(&mut self, what: &str) -> Parsed<String> {
        match self.token() {
            Token::Name(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => self.expected(what),
        }
    }

    /// A text that is no pattern.
    fn text(&mut self) -> Parsed<String> {
        let Token::Text(pieces) = self.token() else { return self.expected("a text in quotation marks") };
        let plain = pieces.iter().map(|piece| match piece {
            Glob::Any => Some('*'),
            Glob::Char('*') => None,
            Glob::Char(char) => Some(*char),
        });
        match plain.collect::<Option<String>>() {
            Some(text) => {
                self.next += 1;
                Ok(text)
            }
            None => Err(self.fault(self.at(), "`\\*` is for patterns after `like`")),
        }
    }

    // Policies

    fn policy(&mut self, place: usize) -> Parsed<Policy> {
        let mut id = None;
        while self.takes("@") {
            let (at, name) = (self.at(), self.name("a name after @")?);
            let said = if self.takes("(") {
                let said = self.text()?;
                self.sign(")")?;
                said
            } else {
                String::new()
            };
            if name == "id" {
                if id.is_some() {
                    return Err(self.fault(at, "a policy has one id"));
                }
                id = Some(self.id(at, said)?);
            }
        }
        let says = match () {
            () if self.takes_word("permit") => Says::Permit,
            () if self.takes_word("forbid") => Says::Forbid,
            () => return self.expected("permit or forbid"),
        };
        self.sign("(")?;
        let principal = self.scope("principal")?;
        self.sign(",")?;
        let actions = self.actions()?;
        self.sign(",")?;
        let resource = self.scope("resource")?;
        self.takes(",");
        self.sign(")")?;
        let mut conditions = Vec::new();
        loop {
            let when = match () {
                () if self.takes_word("when") => true,
                () if self.takes_word("unless") => false,
                () => break,
            };
            self.sign("{")?;
            let expr = self.expr(0)?;
            self.sign("}")?;
            conditions.push(Condition { when, expr });
        }
        self.sign(";")?;
        let id = id.unwrap_or_else(|| format!("policy{place}"));
        Ok(Policy { id, says, principal, actions, resource, conditions })
    }

    fn id(&self, at: Place, id: String) -> Parsed<String> {
        let plain = |char: char| char.is_ascii_alphanumeric() || "-_./ :".contains(char);
        let is = (1..=ID_CHARS_MAX).contains(&id.len()) && id.chars().all(plain) && id.trim() == id;
        if is {
            return Ok(id);
        }
        let words = format!(
            "an id has 1 to {ID_CHARS_MAX} letters, digits, spaces and - _ . / : and no space at its ends"
        );
        Err(self.fault(at, words))
    }

    fn scope(&mut self, of: &str) -> Parsed<Scope> {
        self.word(of)?;
        if self.takes("==") {
            return Ok(Scope { kind: None, test: Some((Test::Is, self.entity()?)) });
        }
        let kind = if self.takes_word("is") { Some(self.kind()?) } else { None };
        let test = if self.takes_word("in") { Some((Test::In, self.entity()?)) } else { None };
        Ok(Scope { kind, test })
    }

    fn actions(&mut self) -> Parsed<Option<Vec<Action>>> {
        self.word("action")?;
        if self.takes("==") {
            return Ok(Some(vec![self.action()?]));
        }
        if !self.takes_word("in") {
            return Ok(None);
        }
        if !self.takes("[") {
            return Ok(Some(vec![self.action()?]));
        }
        let mut actions = Vec::new();
        while !self.takes("]") {
            actions.push(self.action()?);
            if !self.takes(",") {
                self.sign("]")?;
                break;
            }
        }
        Ok(Some(actions))
    }

    fn action(&mut self) -> Parsed<Action> {
        let at = self.at();
        let name = self.name("an action, such as Action::\"call_tool\"")?;
        if name != "Action" {
            return Err(self.fault(at, format!("{name} is no action; say Action::\"call_tool\"")));
        }
        self.sign("::")?;
        self.named_action()
    }

    fn named_action(&mut self) -> Parsed<Action> {
        let (at, name) = (self.at(), self.text()?);
        Action::parse(&name).ok_or_else(|| {
            let known = Action::ALL.map(Action::as_str).join(", ");
            self.fault(at, format!("there is no action {name:?}; there are {known}"))
        })
    }

    fn kind(&mut self) -> Parsed<Kind> {
        let (at, name) = (self.at(), self.name("a kind, such as Model")?);
        self.kind_of(at, &name)
    }

    fn kind_of(&self, at: Place, name: &str) -> Parsed<Kind> {
        Kind::parse(name).ok_or_else(|| {
            let known = Kind::ALL.map(Kind::as_str).join(", ");
            self.fault(at, format!("there is no kind {name:?}; there are {known}"))
        })
    }

    fn entity(&mut self) -> Parsed<Entity> {
        if *self.token() == Token::Sign("?") {
            return Err(self.fault(self.at(), "templates are not known here: name one thing"));
        }
        let kind = self.kind()?;
        self.sign("::")?;
        Ok(Entity { kind, id: self.text()? })
    }

    // Expressions

    fn node(&mut self, at: Place, node: Node) -> Parsed<Expr> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.fault(at, format!("this policy has more than {NODES_MAX} parts: make it two")));
        }
        Ok(Expr { at, node })
    }

    fn deeper(&self, depth: usize) -> Parsed<usize> {
        if depth < DEPTH_MAX {
            return Ok(depth + 1);
        }
        Err(self.fault(self.at(), format!("this nests more than {DEPTH_MAX} deep")))
    }

    fn expr(&mut self, depth: usize) -> Parsed<Expr> {
        let (at, depth) = (self.at(), self.deeper(depth)?);
        if self.takes_word("if") {
            let condition = self.expr(depth)?;
            self.word("then")?;
            let then = self.expr(depth)?;
            self.word("else")?;
            let other = self.expr(depth)?;
            return self.node(at, Node::If(Box::new((condition, then, other))));
        }
        let mut sides = vec![self.conjunction(depth)?];
        while self.takes("||") {
            sides.push(self.conjunction(depth)?);
        }
        self.joined(sides, Node::Or)
    }

    fn conjunction(&mut self, depth: usize) -> Parsed<Expr> {
        let mut sides = vec![self.relation(depth)?];
        while self.takes("&&") {
            sides.push(self.relation(depth)?);
        }
        self.joined(sides, Node::And)
    }

    /// Joins many sides by halves, in their order: a chain of a thousand is ten deep and not a thousand. Both joints give the same
    /// from either side.
    fn joined(&mut self, mut sides: Vec<Expr>, join: fn(Box<Expr>, Box<Expr>) -> Node) -> Parsed<Expr> {
        while sides.len() > 1 {
            let mut pairs = Vec::with_capacity(sides.len().div_ceil(2));
            let mut rest = sides.into_iter();
            while let Some(left) = rest.next() {
                pairs.push(match rest.next() {
                    Some(right) => self.node(left.at, join(Box::new(left), Box::new(right)))?,
                    None => left,
                });
            }
            sides = pairs;
        }
        sides.pop().map_or_else(|| self.expected("an expression"), Ok)
    }

    fn relation(&mut self, depth: usize) -> Parsed<Expr> {
        let left = self.sum(depth)?;
        let at = self.at();
        let compares = [
            ("<=", Compare::LessOrEqual),
            (">=", Compare::MoreOrEqual),
            ("<", Compare::Less),
            (">", Compare::More),
        ];
        for (sign, compare) in compares {
            if self.takes(sign) {
                let right = self.sum(depth)?;
                return self.node(at, Node::Compare(compare, Box::new((left, right))));
            }
        }
        for (sign, same) in [("==", true), ("!=", false)] {
            if self.takes(sign) {
                let right = self.sum(depth)?;
                return self.node(at, Node::Equal { sides: Box::new((left, right)), same });
            }
        }
        if self.takes_word("in") {
            let right = self.sum(depth)?;
            return self.node(at, Node::In(Box::new((left, right))));
        }
        if self.takes_word("is") {
            let kind = self.kind()?;
            let within = if self.takes_word("in") { Some(Box::new(self.sum(depth)?)) } else { None };
            return self.node(at, Node::Is(Box::new(left), kind, within));
        }
        if self.takes_word("has") {
            let name = match self.token() {
                Token::Text(_) => self.text()?,
                _ => self.name("the name of a fact")?,
            };
            if *self.token() == Token::Sign(".") {
                return Err(self.fault(self.at(), "facts have no facts of their own"));
            }
            return self.node(at, Node::Has(Box::new(left), name));
        }
        if self.takes_word("like") {
            let Token::Text(pattern) = self.token() else {
                return self.expected("a pattern in quotation marks");
            };
            let pattern = pattern.clone();
            self.next += 1;
            return self.node(at, Node::Like(Box::new(left), pattern));
        }
        Ok(left)
    }

    fn sum(&mut self, depth: usize) -> Parsed<Expr> {
        self.chain(depth, &[("+", Sum::Plus), ("-", Sum::Minus)], |parser, depth| {
            parser.chain(depth, &[("*", Sum::Times)], Self::signed)
        })
    }

    /// A chain from left to right, which each link makes deeper.
    fn chain(
        &mut self,
        depth: usize,
        signs: &[(&'static str, Sum)],
        part: impl Fn(&mut Self, usize) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        let (mut left, mut links) = (part(self, depth)?, depth);
        'links: loop {
            let at = self.at();
            for (sign, sum) in signs {
                if self.takes(sign) {
                    links = self.deeper(links)?;
                    let right = part(self, depth)?;
                    left = self.node(at, Node::Sum(*sum, Box::new((left, right))))?;
                    continue 'links;
                }
            }
            return Ok(left);
        }
    }

    fn signed(&mut self, depth: usize) -> Parsed<Expr> {
        let mut before = Vec::new();
        loop {
            let at = self.at();
            match () {
                () if self.takes("!") => before.push((at, true)),
                () if self.takes("-") => before.push((at, false)),
                () => break,
            }
            if before.len() > SIGNS_MAX {
                return Err(self.fault(at, format!("more than {SIGNS_MAX} signs before one thing")));
            }
        }
        if before.iter().any(|(_, not)| *not) && before.iter().any(|(_, not)| !not) {
            return Err(self.fault(self.at(), "`!` and `-` do not mix"));
        }
        // The least number has no positive counterpart.
        let mut expr = match (self.token(), before.last()) {
            (Token::Number(number), Some((_, false))) => {
                let least = i64::try_from(*number).map_or(i64::MIN, |number| -number);
                let at = self.at();
                self.next += 1;
                before.pop();
                self.node(at, Node::Long(least))?
            }
            _ => self.member(depth)?,
        };
        for (at, not) in before.into_iter().rev() {
            let inner = Box::new(expr);
            expr = self.node(at, if not { Node::Not(inner) } else { Node::Negate(inner) })?;
        }
        Ok(expr)
    }

    fn member(&mut self, depth: usize) -> Parsed<Expr> {
        let (mut expr, mut depth) = (self.primary(depth)?, depth);
        loop {
            let at = self.at();
            if self.takes(".") {
                depth = self.deeper(depth)?;
                let name_at = self.at();
                let name = self.name("the name of a fact")?;
                expr = if self.takes("(") {
                    self.method((name_at, &name), expr, depth)?
                } else {
                    self.node(name_at, Node::Attr(Box::new(expr), name))?
                };
            } else if self.takes("[") {
                depth = self.deeper(depth)?;
                let name = self.text()?;
                self.sign("]")?;
                expr = self.node(at, Node::Attr(Box::new(expr), name))?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn method(&mut self, (at, name): (Place, &str), of: Expr, depth: usize) -> Parsed<Expr> {
        let method = match name {
            "contains" => Method::Contains,
            "containsAll" => Method::ContainsAll,
            "containsAny" => Method::ContainsAny,
            "isEmpty" => Method::IsEmpty,
            _ => return Err(self.fault(at, format!("{name}() is not known here"))),
        };
        let argument = if method == Method::IsEmpty { None } else { Some(Box::new(self.expr(depth)?)) };
        self.sign(")")?;
        self.node(at, Node::Ask(method, Box::new(of), argument))
    }

    fn primary(&mut self, depth: usize) -> Parsed<Expr> {
        let at = self.at();
        match self.token().clone() {
            Token::Number(number) => match i64::try_from(number) {
                Ok(number) => {
                    self.next += 1;
                    self.node(at, Node::Long(number))
                }
                Err(_) => Err(self.fault(at, "the number is too large")),
            },
            Token::Text(_) => {
                let text = self.text()?;
                self.node(at, Node::Text(text))
            }
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.expr(depth)?;
                self.sign(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.next += 1;
                let mut items = Vec::new();
                while !self.takes("]") {
                    items.push(self.expr(depth)?);
                    if !self.takes(",") {
                        self.sign("]")?;
                        break;
                    }
                }
                self.node(at, Node::Set(items))
            }
            Token::Sign("{") => Err(self.fault(at, "records are not known here")),
            Token::Name(name) => self.named(at, &name),
            Token::Sign(_) | Token::End => self.expected("an expression"),
        }
    }

    fn named(&mut self, at: Place, name: &str) -> Parsed<Expr> {
        self.next += 1;
        if self.takes("::") {
            let node = match name {
                "Action" => Node::Action(self.named_action()?),
                _ => {
                    let kind = self.kind_of(at, name)?;
                    Node::Entity(Entity { kind, id: self.text()? })
                }
            };
            return self.node(at, node);
        }
        let node = match name {
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            "principal" => Node::Var(Var::Principal),
            "action" => Node::Var(Var::Action),
            "resource" => Node::Var(Var::Resource),
            "context" => Node::Var(Var::Context),
            name if RESERVED.contains(&name) => {
                return Err(self.fault(at, format!("expected an expression, found {name:?}")));
            }
            name => return Err(self.fault(at, format!("{name} is not known here"))),
        };
        self.node(at, node)
    }
}
