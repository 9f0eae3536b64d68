//! What values an expression can have, as far as that is known before it is evaluated.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
};

use regorus::Value;

/// Parts of one type. Parts are shared, so a short policy can write down a type that nobody can compare with another one.
const MOST_PARTS: u64 = 1 << 16;

thread_local! {
    /// Whether a type was to have more parts since that was last asked.
    static HAS_OUTGROWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether a type of this thread was to have more parts than a type may have since this was last asked.
pub(super) fn has_outgrown() -> bool {
    HAS_OUTGROWN.take()
}

/// `of`, or anything where `of` has too many parts.
fn bounded(of: Type) -> Type {
    if of.size() <= MOST_PARTS {
        return of;
    }
    HAS_OUTGROWN.set(true);
    Type::any()
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    /// Nothing is known yet; also what a set without members has in it.
    #[default]
    Unknown,
    Null,
    Boolean,
    Number,
    Text,
    Array(Rc<Array>),
    Object(Rc<Object>),
    Set(Rc<Type>),
    /// One of these; with none of them, anything.
    Any(Rc<BTreeSet<Type>>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Array {
    size: u64,
    is_partial: bool,
    pub(super) items: Vec<Type>,
    /// Of the items behind those; unknown when there are none.
    pub(super) rest: Type,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    size: u64,
    is_partial: bool,
    pub(super) fields: BTreeMap<Value, Type>,
    /// Keys and values of other fields.
    pub(super) rest: Option<(Type, Type)>,
}

impl Type {
    pub(super) fn any() -> Self {
        Self::Any(Rc::default())
    }

    pub(super) fn array(items: Vec<Type>, rest: Type) -> Self {
        let size = items.iter().fold(1_u64, |sum, item| sum.saturating_add(item.size()));
        let is_partial = items.iter().any(Type::is_partial) || rest != Type::Unknown && rest.is_partial();
        bounded(Self::Array(Rc::new(Array {
            size: size.saturating_add(rest.size()),
            is_partial,
            items,
            rest,
        })))
    }

    pub(super) fn object(fields: BTreeMap<Value, Type>, rest: Option<(Type, Type)>) -> Self {
        let all = fields.values().chain(rest.iter().flat_map(|(key, value)| [key, value]));
        let size = all.clone().fold(1_u64, |sum, part| sum.saturating_add(part.size()));
        let is_partial = all.into_iter().any(Type::is_partial);
        bounded(Self::Object(Rc::new(Object { size, is_partial, fields, rest })))
    }

    pub(super) fn set(of: Type) -> Self {
        Self::Set(Rc::new(of))
    }

    pub(super) fn one_of(types: impl IntoIterator<Item = Type>) -> Self {
        Self::Any(Rc::new(types.into_iter().collect()))
    }

    /// That of a value which is written down.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::array(items.iter().map(Self::of).collect(), Self::Unknown),
            Value::Set(items) => Self::set(items.iter().map(Self::of).fold(Self::Unknown, or)),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), Self::of(value)));
                Self::object(fields.collect(), None)
            }
            _ => Self::Unknown,
        }
    }

    /// How many types it is made of.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Array(array) => array.size,
            Self::Object(object) => object.size,
            Self::Set(of) => of.size().saturating_add(1),
            Self::Any(of) => of.iter().fold(1, |sum: u64, one| sum.saturating_add(one.size())),
            _ => 1,
        }
    }

    /// Whether nothing is known of a part of it.
    pub(super) fn is_partial(&self) -> bool {
        match self {
            Self::Unknown => true,
            Self::Array(array) => array.is_partial,
            Self::Object(object) => object.is_partial,
            Self::Set(of) => of.is_partial(),
            _ => false,
        }
    }

    /// Whether it is that of an array, object or set that has nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Array(array) => array.items.is_empty() && array.rest == Self::Unknown,
            Self::Object(object) => object.fields.is_empty() && object.rest.is_none(),
            Self::Set(of) => **of == Self::Unknown,
            _ => false,
        }
    }

    /// What indexes it; unknown when nothing does.
    pub(super) fn keys(&self) -> Self {
        match self {
            Self::Array(_) => Self::Number,
            Self::Object(object) => {
                let keys = object.fields.keys().map(Self::of);
                keys.chain(object.rest.iter().map(|(key, _)| key.clone())).fold(Self::Unknown, or)
            }
            Self::Set(of) => (**of).clone(),
            Self::Any(of) if of.is_empty() => self.clone(),
            Self::Any(of) => of.iter().map(Self::keys).fold(Self::Unknown, or),
            _ => Self::Unknown,
        }
    }

    /// What is in it; unknown when nothing is.
    pub(super) fn values(&self) -> Self {
        match self {
            Self::Array(array) => array.items.iter().chain([&array.rest]).cloned().fold(Self::Unknown, or),
            Self::Object(object) => {
                let rest = object.rest.iter().map(|(_, value)| value);
                object.fields.values().chain(rest).cloned().fold(Self::Unknown, or)
            }
            Self::Set(of) => (**of).clone(),
            Self::Any(of) if of.is_empty() => self.clone(),
            Self::Any(of) => of.iter().map(Self::values).fold(Self::Unknown, or),
            _ => Self::Unknown,
        }
    }

    /// What is in it at `key`; unknown when nothing is.
    pub(super) fn at(&self, key: &Value) -> Self {
        match self {
            Self::Array(array) => match key.as_i64() {
                Ok(at) if at >= 0 => array.item(at as usize),
                _ => Self::Unknown,
            },
            Self::Object(object) => object.field(key),
            Self::Set(of) => {
                let wanted = Self::of(key);
                if of.has(&wanted) { wanted } else { Self::Unknown }
            }
            Self::Any(of) if of.is_empty() => self.clone(),
            Self::Any(of) => of.iter().map(|one| one.at(key)).fold(Self::Unknown, or),
            _ => Self::Unknown,
        }
    }

    /// Whether `other` is this, or one of these.
    fn has(&self, other: &Self) -> bool {
        match self {
            Self::Any(of) => of.is_empty() || of.contains(other),
            _ => self == other,
        }
    }
}

impl Array {
    pub(super) fn item(&self, at: usize) -> Type {
        self.items.get(at).unwrap_or(&self.rest).clone()
    }
}

impl Object {
    pub(super) fn field(&self, key: &Value) -> Type {
        match (self.fields.get(key), &self.rest) {
            (Some(field), _) => field.clone(),
            (None, Some((of, value))) if of.has(&Type::of(key)) => value.clone(),
            _ => Type::Unknown,
        }
    }

    pub(super) fn rest_value(&self) -> &Type {
        self.rest.as_ref().map_or(&Type::Unknown, |(_, value)| value)
    }
}

/// Either of them.
pub(super) fn or(one: Type, other: Type) -> Type {
    match (one, other) {
        (Type::Unknown, known) | (known, Type::Unknown) => known,
        (Type::Any(one), Type::Any(other)) => {
            if one.is_empty() || other.is_empty() {
                return Type::any();
            }
            Type::Any(Rc::new(one.union(&other).cloned().collect()))
        }
        (Type::Any(mut of), one) | (one, Type::Any(mut of)) => {
            if !of.is_empty() && !of.contains(&one) {
                Rc::make_mut(&mut of).insert(one);
            }
            Type::Any(of)
        }
        (one, other) if one == other => one,
        (one, other) => Type::one_of([one, other]),
    }
}

/// Whether a value can be of both.
pub(super) fn meet(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Unknown, _) | (_, Type::Unknown) => false,
        (Type::Any(of), one) | (one, Type::Any(of)) => {
            // Of two choices, either may be the one that is taken apart.
            of.is_empty()
                || of.iter().any(|each| meet(each, one))
                || matches!(one, Type::Any(other) if other.is_empty())
        }
        (Type::Array(one), Type::Array(other)) => {
            let fits = |a: &Array, b: &Array| (0..a.items.len()).all(|at| meet(&a.items[at], &b.item(at)));
            fits(one, other) && fits(other, one) && rests_meet(&one.rest, &other.rest)
        }
        (Type::Object(one), Type::Object(other)) => {
            fields_meet(one, other)
                && fields_meet(other, one)
                && rests_meet(one.rest_value(), other.rest_value())
        }
        (Type::Set(one), Type::Set(other)) => rests_meet(one, other),
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

fn rests_meet(one: &Type, other: &Type) -> bool {
    *one == Type::Unknown || *other == Type::Unknown || meet(one, other)
}

fn fields_meet(one: &Object, other: &Object) -> bool {
    let is_open = *one.rest_value() != Type::Unknown || *other.rest_value() != Type::Unknown;
    one.fields.iter().all(|(key, field)| match other.field(key) {
        Type::Unknown => is_open,
        found => meet(field, &found),
    })
}

/// As a message names it: no more of it than fits on a line.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Text => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
            Self::Set(_) => "set",
            Self::Any(of) if of.is_empty() => "any",
            Self::Any(of) => {
                let mut names: Vec<String> = of.iter().map(ToString::to_string).collect();
                names.dedup();
                return f.write_str(&names.join(" or "));
            }
        })
    }
}
