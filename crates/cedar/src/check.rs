//! Whether a policy makes sense: for every kind of effect that it may be asked about, what it looks at is there and has the type
//! that is wanted of it. So no policy can come to nothing when it is asked.

use crate::ast::*;
use crate::lex::fault;
use crate::parse::{Places, Read};
use crate::schema::{Action, FactType, Kind};
use crate::{Fault, Otherwise};

/// Faults that are told at once.
const FAULTS_MAX: usize = 20;

/// What an expression is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    /// True or false; which, when it is the same for every effect of this kind.
    Bool(Option<bool>),
    Long,
    Text,
    Entity(Kind),
    Action,
    Context,
    Set(Box<Type>),
}

impl Type {
    fn name(&self) -> String {
        match self {
            Self::Bool(_) => "true or false".to_owned(),
            Self::Long => "a number".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Entity(kind) => format!("a {}", kind.as_str()),
            Self::Action => "an action".to_owned(),
            Self::Context => "the facts as a whole".to_owned(),
            Self::Set(_) => "a set".to_owned(),
        }
    }
}

/// A kind of effect.
#[derive(Clone, Copy)]
struct Case {
    action: Action,
    principal: Kind,
}

/// What of the policies makes no sense.
pub(crate) fn check(policies: &[Read], otherwise: Otherwise) -> Vec<Fault> {
    let faults = policies.iter().filter_map(|(policy, places)| of(policy, places, otherwise).err());
    faults.take(FAULTS_MAX).collect()
}

fn of(policy: &Policy, places: &Places, otherwise: Otherwise) -> Result<(), Fault> {
    let head = |words: &str| Err(Fault { words: words.to_owned(), ..places.head.clone() });
    if policy.says == Says::Permit && otherwise == Otherwise::Allow {
        return head(
            "what is not forbidden is allowed here, so a permit changes nothing: leave it out, or save the policies with \
             `default` deny",
        );
    }
    let cases: Vec<Case> = cases(policy).collect();
    if cases.is_empty() {
        return head("no effect has such a principal, action and resource");
    }
    for case in cases {
        for condition in &policy.conditions {
            let told = |(at, words): Wrong| {
                let words = format!("{words}, in {}", case.action.as_str());
                fault(&places.lines, at, words)
            };
            match case.type_of(&condition.expr).map_err(told)? {
                // As in Cedar: what stands behind a condition that is never met is not looked at.
                Type::Bool(Some(is)) if is != condition.when => break,
                Type::Bool(_) => {}
                found => {
                    let words = format!("a condition is true or false, and this is {}", found.name());
                    return Err(told((condition.expr.at, words)));
                }
            }
        }
    }
    Ok(())
}

/// The kinds of effect that its head lets a policy be asked about.
fn cases(policy: &Policy) -> impl Iterator<Item = Case> {
    let actions = policy.actions.as_deref().unwrap_or(&Action::ALL);
    let every = actions.iter().flat_map(|action| {
        action.principals().iter().map(|principal| Case { action: *action, principal: *principal })
    });
    every.filter(|case| {
        fits(&policy.principal, case.principal) && fits(&policy.resource, case.action.resource())
    })
}

fn fits(scope: &Scope, kind: Kind) -> bool {
    let is = scope.kind.is_none_or(|wanted| wanted == kind);
    is && match &scope.test {
        None => true,
        Some((Test::Is, entity)) => entity.kind == kind,
        Some((Test::In, entity)) => inside(kind, entity.kind),
    }
}

/// Whether a thing of one kind can be one of another, or within one.
fn inside(kind: Kind, outer: Kind) -> bool {
    kind == outer || (kind, outer) == (Kind::Model, Kind::Provider)
}

type Wrong = (Place, String);
type Typed = Result<Type, Wrong>;

fn wrong(at: Place, words: impl Into<String>) -> Typed {
    Err((at, words.into()))
}

impl Case {
    fn type_of(self, expr: &Expr) -> Typed {
        match &expr.node {
            Node::Bool(is) => Ok(Type::Bool(Some(*is))),
            Node::Long(_) => Ok(Type::Long),
            Node::Text(_) => Ok(Type::Text),
            Node::Entity(entity) => Ok(Type::Entity(entity.kind)),
            Node::Action(_) => Ok(Type::Action),
            Node::Var(Var::Principal) => Ok(Type::Entity(self.principal)),
            Node::Var(Var::Action) => Ok(Type::Action),
            Node::Var(Var::Resource) => Ok(Type::Entity(self.action.resource())),
            Node::Var(Var::Context) => Ok(Type::Context),
            Node::Attr(of, name) => self.fact(expr.at, of, name),
            Node::Has(of, name) => match self.type_of(of)? {
                Type::Context => Ok(Type::Bool(Some(self.action.fact(name).is_some()))),
                Type::Entity(_) => Ok(Type::Bool(Some(false))),
                other => wrong(of.at, format!("{} has no facts", other.name())),
            },
            Node::Set(items) => self.set(expr.at, items),
            Node::Not(of) => Ok(Type::Bool(self.truth(of)?.map(|is| !is))),
            Node::Negate(of) => self.wants(of, &Type::Long),
            Node::And(left, right) => match self.truth(left)? {
                // As in Cedar: what stands behind a test that fails is not looked at.
                Some(false) => Ok(Type::Bool(Some(false))),
                left => Ok(Type::Bool(match (left, self.truth(right)?) {
                    (_, Some(false)) => Some(false),
                    (Some(true), right) => right,
                    _ => None,
                })),
            },
            Node::Or(left, right) => match self.truth(left)? {
                Some(true) => Ok(Type::Bool(Some(true))),
                left => Ok(Type::Bool(match (left, self.truth(right)?) {
                    (_, Some(true)) => Some(true),
                    (Some(false), right) => right,
                    _ => None,
                })),
            },
            Node::Equal { sides, same } => {
                let (left, right) = (self.type_of(&sides.0)?, self.type_of(&sides.1)?);
                match (&left, &right) {
                    (Type::Context, _) | (_, Type::Context) => {
                        wrong(expr.at, "the facts are not compared as a whole")
                    }
                    (Type::Entity(one), Type::Entity(other)) if one != other => Ok(Type::Bool(Some(!same))),
                    _ if alike(&left, &right) => {
                        Ok(Type::Bool(same_written(&sides.0, &sides.1).map(|is| is == *same)))
                    }
                    _ => wrong(expr.at, format!("{} is never {}", left.name(), right.name())),
                }
            }
            Node::Compare(_, sides) => {
                self.wants(&sides.0, &Type::Long)?;
                self.wants(&sides.1, &Type::Long)?;
                Ok(Type::Bool(None))
            }
            Node::Sum(_, sides) => {
                self.wants(&sides.0, &Type::Long)?;
                self.wants(&sides.1, &Type::Long)
            }
            Node::In(sides) => self.is_in(&sides.0, &sides.1),
            Node::Is(of, kind, outer) => {
                let Type::Entity(found) = self.type_of(of)? else {
                    return wrong(of.at, "only a thing has a kind");
                };
                match outer {
                    _ if found != *kind => Ok(Type::Bool(Some(false))),
                    None => Ok(Type::Bool(Some(true))),
                    Some(outer) => self.is_in(of, outer),
                }
            }
            Node::Like(of, _) => {
                self.wants(of, &Type::Text)?;
                Ok(Type::Bool(None))
            }
            Node::If(parts) => {
                let (condition, then, other) = &**parts;
                match self.truth(condition)? {
                    Some(true) => self.type_of(then),
                    Some(false) => self.type_of(other),
                    None => match (self.type_of(then)?, self.type_of(other)?) {
                        (Type::Bool(one), Type::Bool(two)) => {
                            Ok(Type::Bool(one.filter(|one| two == Some(*one))))
                        }
                        (one, two) if one == two => Ok(one),
                        (one, two) => wrong(
                            expr.at,
                            format!("it is {} or {}, and should be of one type", one.name(), two.name()),
                        ),
                    },
                }
            }
            Node::Ask(method, of, argument) => self.ask(*method, of, argument.as_deref()),
        }
    }

    fn fact(self, at: Place, of: &Expr, name: &str) -> Typed {
        match self.type_of(of)? {
            Type::Context => match self.action.fact(name) {
                Some(FactType::Long) => Ok(Type::Long),
                Some(FactType::Text) => Ok(Type::Text),
                None => {
                    let known: Vec<&str> = self.action.facts().map(|(known, _)| known).collect();
                    wrong(at, format!("there is no fact {name}; there are {}", known.join(", ")))
                }
            },
            other => wrong(at, format!("{} has no facts; they are in `context`", other.name())),
        }
    }

    fn set(self, at: Place, items: &[Expr]) -> Typed {
        let mut kind: Option<Type> = None;
        for item in items {
            let found = match self.type_of(item)? {
                Type::Bool(_) => Type::Bool(None),
                Type::Context => return wrong(item.at, "the facts as a whole are in no set"),
                found => found,
            };
            match &kind {
                Some(kind) if *kind != found => {
                    return wrong(
                        item.at,
                        format!("a set of one type has {} and {}", kind.name(), found.name()),
                    );
                }
                _ => kind = Some(found),
            }
        }
        kind.map_or_else(|| wrong(at, "an empty set says nothing"), |kind| Ok(Type::Set(Box::new(kind))))
    }

    fn truth(self, expr: &Expr) -> Result<Option<bool>, Wrong> {
        match self.type_of(expr)? {
            Type::Bool(is) => Ok(is),
            other => Err((expr.at, format!("expected true or false, and this is {}", other.name()))),
        }
    }

    fn wants(self, expr: &Expr, wanted: &Type) -> Typed {
        match self.type_of(expr)? {
            found if found == *wanted => Ok(found),
            found => wrong(expr.at, format!("expected {}, and this is {}", wanted.name(), found.name())),
        }
    }

    fn is_in(self, of: &Expr, outer: &Expr) -> Typed {
        let found = self.type_of(of)?;
        let one = |kind: &Type| match (&found, kind) {
            (Type::Entity(found), Type::Entity(outer)) => Ok(inside(*found, *outer)),
            (Type::Action, Type::Action) => Ok(true),
            (Type::Entity(_) | Type::Action, other) => {
                Err((outer.at, format!("nothing is in {}", other.name())))
            }
            (other, _) => Err((of.at, format!("{} is in nothing", other.name()))),
        };
        let can = match &self.type_of(outer)? {
            Type::Set(kind) => one(kind)?,
            kind => one(kind)?,
        };
        Ok(Type::Bool(if can { None } else { Some(false) }))
    }

    fn ask(self, method: Method, of: &Expr, argument: Option<&Expr>) -> Typed {
        let Type::Set(kind) = self.type_of(of)? else {
            return wrong(of.at, "only a set is asked what it has");
        };
        let Some(argument) = argument else { return Ok(Type::Bool(None)) };
        let found = self.type_of(argument)?;
        let fits = match (method, &found) {
            (Method::Contains, found) => alike(&kind, found),
            (_, Type::Set(other)) => alike(&kind, other),
            _ => return wrong(argument.at, format!("expected a set, and this is {}", found.name())),
        };
        if fits {
            Ok(Type::Bool(None))
        } else {
            wrong(argument.at, format!("the set never has {}", found.name()))
        }
    }
}

/// Whether two can be the same.
fn alike(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Bool(_), Type::Bool(_)) => true,
        (Type::Set(one), Type::Set(other)) => alike(one, other),
        (one, other) => one == other,
    }
}

/// Whether two that are written out are the same; `None` of what has to be looked up.
fn same_written(one: &Expr, other: &Expr) -> Option<bool> {
    match (&one.node, &other.node) {
        (Node::Text(one), Node::Text(other)) => Some(one == other),
        (Node::Long(one), Node::Long(other)) => Some(one == other),
        (Node::Bool(one), Node::Bool(other)) => Some(one == other),
        (Node::Entity(one), Node::Entity(other)) => Some(one == other),
        (Node::Action(one), Node::Action(other)) => Some(one == other),
        _ => None,
    }
}
