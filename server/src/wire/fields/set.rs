//! Which fields there are, and sets of them.

use crate::wire::problem::{Kind, kinds};

/// One of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Op,
    Key,
    Name,
    Domain,
    At,
    After,
    Payload,
    PayloadBase64,
    Spread,
    Resolution,
    Only,
    FireAt,
    Timestamp,
    Value,
    ValueBase64,
    Input,
    Watermark,
}

impl Field {
    pub(crate) const ALL: [Self; 17] = [
        Self::Op,
        Self::Key,
        Self::Name,
        Self::Domain,
        Self::At,
        Self::After,
        Self::Payload,
        Self::PayloadBase64,
        Self::Spread,
        Self::Resolution,
        Self::Only,
        Self::FireAt,
        Self::Timestamp,
        Self::Value,
        Self::ValueBase64,
        Self::Input,
        Self::Watermark,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Op => "op",
            Self::Key => "key",
            Self::Name => "name",
            Self::Domain => "domain",
            Self::At => "at",
            Self::After => "after",
            Self::Payload => "payload",
            Self::PayloadBase64 => "payload_base64",
            Self::Spread => "spread",
            Self::Resolution => "resolution",
            Self::Only => "only",
            Self::FireAt => "fire_at",
            Self::Timestamp => "timestamp",
            Self::Value => "value",
            Self::ValueBase64 => "value_base64",
            Self::Input => "input",
            Self::Watermark => "watermark",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "op" => Self::Op,
            "key" => Self::Key,
            "name" => Self::Name,
            "domain" => Self::Domain,
            "at" => Self::At,
            "after" => Self::After,
            "payload" => Self::Payload,
            "payload_base64" => Self::PayloadBase64,
            "spread" => Self::Spread,
            "resolution" => Self::Resolution,
            "only" => Self::Only,
            "fire_at" => Self::FireAt,
            "timestamp" => Self::Timestamp,
            "value" => Self::Value,
            "value_base64" => Self::ValueBase64,
            "input" => Self::Input,
            "watermark" => Self::Watermark,
            _ => return None,
        })
    }

    /// What kind of problem a wrong value of it is.
    pub(super) const fn kind(self) -> &'static Kind {
        match self {
            Self::Key => &kinds::INVALID_KEY,
            Self::Name => &kinds::INVALID_NAME,
            Self::At | Self::FireAt | Self::Timestamp | Self::Watermark => &kinds::INVALID_TIME,
            Self::After | Self::Spread | Self::Resolution => &kinds::INVALID_DURATION,
            Self::Op
            | Self::Domain
            | Self::Payload
            | Self::PayloadBase64
            | Self::Only
            | Self::Value
            | Self::ValueBase64
            | Self::Input => &kinds::INVALID_FIELD,
        }
    }
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FieldSet(u32);

impl FieldSet {
    #[cfg(test)]
    pub(crate) const ALL: Self = Self::of(&Field::ALL);
    /// What a line of a batch of operations may say.
    pub(crate) const OPERATION: Self = Self::of(&[
        Field::Op,
        Field::Key,
        Field::Name,
        Field::Domain,
        Field::At,
        Field::After,
        Field::Payload,
        Field::PayloadBase64,
        Field::Spread,
        Field::Resolution,
        Field::Only,
        Field::FireAt,
    ]);
    /// What a line of elements may say.
    pub(crate) const ELEMENT: Self = Self::of(&[
        Field::Key,
        Field::Timestamp,
        Field::Value,
        Field::ValueBase64,
        Field::Input,
        Field::Watermark,
    ]);

    pub(crate) const fn of(fields: &[Field]) -> Self {
        let mut set = Self(0);
        let mut index = 0;
        while index < fields.len() {
            set = set.with(fields[index]);
            index += 1;
        }
        set
    }

    pub(crate) const fn with(self, field: Field) -> Self {
        Self(self.0 | 1 << field as u32)
    }

    pub(crate) const fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u32 != 0
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// One that is here and not there.
    pub(crate) fn first_beyond(self, other: Self) -> Option<Field> {
        let beyond = Self(self.0 & !other.0);
        if beyond.0 == 0 {
            return None;
        }
        Field::ALL.into_iter().find(|field| beyond.has(*field))
    }

    /// "`a`, `b`, `c`".
    pub(crate) fn list(self) -> String {
        let names: Vec<_> = Field::ALL
            .into_iter()
            .filter(|field| self.has(*field))
            .map(|field| format!("`{}`", field.as_str()))
            .collect();
        names.join(", ")
    }
}
