//! What one policy says of one effect.
//!
//! `None` is what cannot be worked out. After [`check`](crate::check) that is a number that grows out of its range, and nothing else.

use std::borrow::Cow;

use crate::ast::*;
use crate::schema::{Action, Asked, Fact, Kind, Who, within};

/// Whether a policy applies; `None` when that cannot be worked out.
pub(crate) fn applies(policy: &Policy, asked: &Asked<'_>) -> Option<bool> {
    let action = asked.effect.action();
    if policy.actions.as_ref().is_some_and(|actions| !actions.contains(&action)) {
        return Some(false);
    }
    let eval = Eval { asked };
    if !fits(&policy.principal, eval.principal()) || !fits(&policy.resource, eval.resource()) {
        return Some(false);
    }
    for condition in &policy.conditions {
        if eval.truth(&condition.expr)? != condition.when {
            return Some(false);
        }
    }
    Some(true)
}

type Thing<'a> = (Kind, &'a str);

fn fits(scope: &Scope, thing: Thing<'_>) -> bool {
    scope.kind.is_none_or(|kind| kind == thing.0)
        && match &scope.test {
            None => true,
            Some((Test::Is, entity)) => thing == (entity.kind, entity.id.as_str()),
            Some((Test::In, entity)) => within(thing, (entity.kind, &entity.id)),
        }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value<'a> {
    Bool(bool),
    Long(i64),
    Text(Cow<'a, str>),
    Entity(Kind, &'a str),
    Action(Action),
    Context,
    Set(Vec<Value<'a>>),
}

struct Eval<'a> {
    asked: &'a Asked<'a>,
}

impl<'a> Eval<'a> {
    const fn principal(&self) -> Thing<'a> {
        match self.asked.who {
            Who::Agent(name) => (Kind::Agent, name),
            Who::Key(id) => (Kind::Key, id),
            Who::Person(id) => (Kind::Person, id),
        }
    }

    const fn resource(&self) -> Thing<'a> {
        (self.asked.effect.action().resource(), self.asked.effect.resource())
    }

    fn truth(&self, expr: &'a Expr) -> Option<bool> {
        match self.value(expr)? {
            Value::Bool(is) => Some(is),
            _ => None,
        }
    }

    fn long(&self, expr: &'a Expr) -> Option<i64> {
        match self.value(expr)? {
            Value::Long(long) => Some(long),
            _ => None,
        }
    }

    fn value(&self, expr: &'a Expr) -> Option<Value<'a>> {
        Some(match &expr.node {
            Node::Bool(is) => Value::Bool(*is),
            Node::Long(long) => Value::Long(*long),
            Node::Text(text) => Value::Text(Cow::Borrowed(text)),
            Node::Entity(entity) => Value::Entity(entity.kind, &entity.id),
            Node::Action(action) => Value::Action(*action),
            Node::Var(var) => match var {
                Var::Principal => Value::Entity(self.principal().0, self.principal().1),
                Var::Resource => Value::Entity(self.resource().0, self.resource().1),
                Var::Action => Value::Action(self.asked.effect.action()),
                Var::Context => Value::Context,
            },
            Node::Attr(of, name) => match self.value(of)? {
                Value::Context => match self.asked.fact(name)? {
                    Fact::Long(long) => Value::Long(long),
                    Fact::Text(text) => Value::Text(Cow::Borrowed(text)),
                },
                _ => return None,
            },
            Node::Has(of, name) => match self.value(of)? {
                Value::Context => Value::Bool(self.asked.fact(name).is_some()),
                Value::Entity(..) => Value::Bool(false),
                _ => return None,
            },
            Node::Set(items) => Value::Set(items.iter().map(|item| self.value(item)).collect::<Option<_>>()?),
            Node::Not(of) => Value::Bool(!self.truth(of)?),
            Node::Negate(of) => Value::Long(self.long(of)?.checked_neg()?),
            Node::And(left, right) => Value::Bool(self.truth(left)? && self.truth(right)?),
            Node::Or(left, right) => Value::Bool(self.truth(left)? || self.truth(right)?),
            Node::Equal { sides, same } => {
                Value::Bool(equal(&self.value(&sides.0)?, &self.value(&sides.1)?) == *same)
            }
            Node::Compare(compare, sides) => {
                let (left, right) = (self.long(&sides.0)?, self.long(&sides.1)?);
                Value::Bool(match compare {
                    Compare::Less => left < right,
                    Compare::LessOrEqual => left <= right,
                    Compare::More => left > right,
                    Compare::MoreOrEqual => left >= right,
                })
            }
            Node::Sum(sum, sides) => {
                let (left, right) = (self.long(&sides.0)?, self.long(&sides.1)?);
                Value::Long(match sum {
                    Sum::Plus => left.checked_add(right)?,
                    Sum::Minus => left.checked_sub(right)?,
                    Sum::Times => left.checked_mul(right)?,
                })
            }
            Node::In(sides) => Value::Bool(is_in(&self.value(&sides.0)?, &self.value(&sides.1)?)?),
            Node::Is(of, kind, outer) => {
                let found = self.value(of)?;
                let is = matches!(&found, Value::Entity(found, _) if found == kind);
                Value::Bool(match outer {
                    Some(outer) if is => is_in(&found, &self.value(outer)?)?,
                    _ => is,
                })
            }
            Node::Like(of, pattern) => match self.value(of)? {
                Value::Text(text) => Value::Bool(like(&text, pattern)),
                _ => return None,
            },
            Node::If(parts) => {
                let (condition, then, other) = &**parts;
                return self.value(if self.truth(condition)? { then } else { other });
            }
            Node::Ask(method, of, argument) => {
                let Value::Set(items) = self.value(of)? else { return None };
                let argument = match argument {
                    Some(argument) => Some(self.value(argument)?),
                    None => None,
                };
                let has = |item: &Value<'_>| items.iter().any(|one| equal(one, item));
                Value::Bool(match (method, &argument) {
                    (Method::IsEmpty, None) => items.is_empty(),
                    (Method::Contains, Some(item)) => has(item),
                    (Method::ContainsAll, Some(Value::Set(others))) => others.iter().all(has),
                    (Method::ContainsAny, Some(Value::Set(others))) => others.iter().any(has),
                    _ => return None,
                })
            }
        })
    }
}

/// Sets are the same whatever their order, and however often they name one thing.
fn equal(one: &Value<'_>, other: &Value<'_>) -> bool {
    match (one, other) {
        (Value::Set(one), Value::Set(other)) => {
            let all = |these: &[Value<'_>], those: &[Value<'_>]| {
                these.iter().all(|this| those.iter().any(|that| equal(this, that)))
            };
            all(one, other) && all(other, one)
        }
        _ => one == other,
    }
}

fn is_in(of: &Value<'_>, outer: &Value<'_>) -> Option<bool> {
    match (of, outer) {
        (Value::Entity(kind, id), Value::Entity(outer, of)) => Some(within((*kind, id), (*outer, of))),
        (Value::Action(one), Value::Action(other)) => Some(one == other),
        (of, Value::Set(outers)) => {
            outers.iter().try_fold(false, |found, outer| Some(found || is_in(of, outer)?))
        }
        _ => None,
    }
}

/// Whether a text has the form of a pattern. No choice is ever gone back on but the last, so the time is at most the product of both
/// lengths.
fn like(text: &str, pattern: &[Glob]) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut t, mut p) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(Glob::Any), _) => {
                last = Some((p, t));
                p += 1;
            }
            (Some(Glob::Char(wanted)), Some(found)) if wanted == found => {
                p += 1;
                t += 1;
            }
            _ => match last {
                Some((any, from)) => {
                    last = Some((any, from + 1));
                    p = any + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|piece| *piece == Glob::Any)
}
