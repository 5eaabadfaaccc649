//! What was read: policies, each with whom and what it speaks of, and its conditions.

use crate::schema::{Action, Kind};

/// Where something stands: a byte of the text.
pub(crate) type Place = usize;

/// What a policy says of what it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Permit,
    Forbid,
}

/// A policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: String,
    pub(crate) says: Says,
    pub(crate) principal: Scope,
    /// `None` for every action.
    pub(crate) actions: Option<Vec<Action>>,
    pub(crate) resource: Scope,
    pub(crate) conditions: Vec<Condition>,
}

/// Whom or what a policy speaks of.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) kind: Option<Kind>,
    pub(crate) test: Option<(Test, Entity)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Is,
    In,
}

/// A thing by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entity {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

/// `when` is to hold, `unless` is not.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) when: bool,
    pub(crate) expr: Expr,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) at: Place,
    pub(crate) node: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Var {
    Principal,
    Action,
    Resource,
    Context,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Plus,
    Minus,
    Times,
}

/// What a set is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Contains,
    ContainsAll,
    ContainsAny,
    IsEmpty,
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glob {
    Any,
    Char(char),
}

#[derive(Debug)]
pub(crate) enum Node {
    Bool(bool),
    Long(i64),
    Text(String),
    Entity(Entity),
    Action(Action),
    Var(Var),
    Attr(Box<Expr>, String),
    Has(Box<Expr>, String),
    Set(Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Equal { sides: Box<(Expr, Expr)>, same: bool },
    Compare(Compare, Box<(Expr, Expr)>),
    Sum(Sum, Box<(Expr, Expr)>),
    In(Box<(Expr, Expr)>),
    Is(Box<Expr>, Kind, Option<Box<Expr>>),
    Like(Box<Expr>, Vec<Glob>),
    If(Box<(Expr, Expr, Expr)>),
    Ask(Method, Box<Expr>, Option<Box<Expr>>),
}
