//! What a window makes of its elements.
//!
//! An element on its own is a window of one: adding it to another and merging two sessions are the
//! same. Except for sums of fractions, what comes out does not depend on the order in which elements came.

use crate::function::{FunctionError, Result};
use crate::operators::state::raw_json;
use crate::operators::value::Pointer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A field of a pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    /// Its name as it stands in the pane, with the comma before it and the colon behind.
    label: String,
    pub(super) aggregate: Aggregate,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Aggregate {
    Count,
    Sum(Pointer),
    Min(Pointer),
    Max(Pointer),
    Avg(Pointer),
    /// Of the earliest timestamp; of several of that, the first to come.
    First(Pointer),
    /// Of the latest timestamp; of several of that, the last to come.
    Last(Pointer),
    /// In the order of their timestamps; of one timestamp, as they came.
    Collect(Pointer),
}

/// What a window holds for one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Held<'a> {
    Count(u64),
    Sum(Sum),
    Min(Number),
    Max(Number),
    Avg(Sum, u64),
    First(i64, #[serde(borrow)] Text<'a>),
    Last(i64, #[serde(borrow)] Text<'a>),
    Collect(#[serde(borrow)] Vec<(i64, Text<'a>)>),
}

/// JSON text, as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow, serialize_with = "raw_json")] Cow<'a, str>);

/// A number: whole ones are exact, whatever their length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Number {
    Whole(i128),
    Fraction(f64),
}

/// A sum: that of the whole numbers is exact, whatever the order.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sum {
    whole: i128,
    /// The sum of all others, if there are any.
    fractions: Option<f64>,
}

impl Field {
    pub(super) fn new(name: &str, aggregate: Aggregate) -> Self {
        let label = format!(",{}:", Value::from(name));
        Self { name: name.to_owned(), label, aggregate }
    }

    /// What a window of this element alone holds.
    pub(super) fn of_element<'a>(&self, at: i64, value: &'a str) -> Result<Held<'a>> {
        Ok(match &self.aggregate {
            Aggregate::Count => Held::Count(1),
            Aggregate::Sum(pointer) => Held::Sum(Sum::of(Number::find(pointer, value)?)),
            Aggregate::Min(pointer) => Held::Min(Number::find(pointer, value)?),
            Aggregate::Max(pointer) => Held::Max(Number::find(pointer, value)?),
            Aggregate::Avg(pointer) => Held::Avg(Sum::of(Number::find(pointer, value)?), 1),
            Aggregate::First(pointer) => Held::First(at, Text::find(pointer, value)?),
            Aggregate::Last(pointer) => Held::Last(at, Text::find(pointer, value)?),
            Aggregate::Collect(pointer) => Held::Collect(vec![(at, Text::find(pointer, value)?)]),
        })
    }

    /// Whether it needs the element's value at all.
    pub(super) fn needs_value(&self) -> bool {
        self.aggregate != Aggregate::Count
    }

    /// Appends the field to a pane.
    pub(super) fn write(&self, out: &mut Vec<u8>, held: &Held<'_>) -> Result<()> {
        out.extend_from_slice(self.label.as_bytes());
        match held {
            Held::Count(count) => serde_json::to_writer(out, count)?,
            Held::Sum(sum) => match i64::try_from(sum.whole) {
                Ok(whole) if sum.fractions.is_none() => serde_json::to_writer(out, &whole)?,
                _ => serde_json::to_writer(out, &sum.total())?,
            },
            Held::Avg(sum, count) => serde_json::to_writer(out, &(sum.total() / *count as f64))?,
            Held::Min(Number::Whole(whole)) | Held::Max(Number::Whole(whole)) => {
                serde_json::to_writer(out, whole)?;
            }
            Held::Min(Number::Fraction(number)) | Held::Max(Number::Fraction(number)) => {
                serde_json::to_writer(out, number)?;
            }
            Held::First(_, text) | Held::Last(_, text) => out.extend_from_slice(text.0.as_bytes()),
            Held::Collect(texts) => {
                out.push(b'[');
                for (index, (_, text)) in texts.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(text.0.as_bytes());
                }
                out.push(b']');
            }
        }
        Ok(())
    }
}

impl Held<'_> {
    /// Bytes of the texts that it holds.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Self::First(_, text) | Self::Last(_, text) => text.0.len(),
            Self::Collect(texts) => texts.iter().map(|(_, text)| text.0.len() + 1).sum(),
            _ => 0,
        }
    }

    /// Takes in what another window holds for the same field; of what it says of the same time, that
    /// of the other one came later.
    pub(super) fn take(&mut self, other: Self) -> Result<()> {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Sum(sum), Self::Sum(more)) => sum.add(more),
            (Self::Avg(sum, count), Self::Avg(more, more_count)) => {
                sum.add(more);
                *count += more_count;
            }
            (Self::Min(least), Self::Min(other)) => {
                if other.order(*least) == Ordering::Less {
                    *least = other;
                }
            }
            (Self::Max(most), Self::Max(other)) => {
                if other.order(*most) == Ordering::Greater {
                    *most = other;
                }
            }
            (Self::First(at, text), Self::First(other_at, other)) => {
                if other_at < *at {
                    (*at, *text) = (other_at, other);
                }
            }
            (Self::Last(at, text), Self::Last(other_at, other)) => {
                if other_at >= *at {
                    (*at, *text) = (other_at, other);
                }
            }
            (Self::Collect(texts), Self::Collect(more)) => {
                texts.extend(more);
                // It keeps the order of equal times, and is fast over what is sorted already.
                texts.sort_by_key(|(at, _)| *at);
            }
            _ => return Err(Self::misfit()),
        }
        Ok(())
    }

    /// The error that a window was written by other options.
    pub(super) fn misfit() -> FunctionError {
        FunctionError::new("the key's windows hold other fields than the options name")
    }
}

impl<'a> Text<'a> {
    fn find(pointer: &Pointer, value: &'a str) -> Result<Self> {
        Ok(Self(pointer.require(value)?.into()))
    }
}

impl Number {
    fn find(pointer: &Pointer, value: &str) -> Result<Self> {
        let text = pointer.require(value)?;
        Self::parse(text).ok_or_else(|| pointer.wrong(text, ", not a number"))
    }

    /// A number of JSON.
    fn parse(text: &str) -> Option<Self> {
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Fraction)
    }

    /// The order of the numbers; of two that are equal, the whole one comes first.
    fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            (Self::Fraction(a), Self::Fraction(b)) => a.total_cmp(&b),
            (Self::Whole(a), Self::Fraction(b)) => order_mixed(a, b),
            (Self::Fraction(a), Self::Whole(b)) => order_mixed(b, a).reverse(),
        }
    }
}

fn order_mixed(whole: i128, number: f64) -> Ordering {
    // At its floor, the number is not below the whole one.
    whole.cmp(&(number.floor() as i128)).then(Ordering::Less)
}

impl Sum {
    fn of(number: Number) -> Self {
        match number {
            Number::Whole(whole) => Self { whole, fractions: None },
            Number::Fraction(number) => Self { whole: 0, fractions: Some(number) },
        }
    }

    fn add(&mut self, more: Self) {
        self.whole = self.whole.saturating_add(more.whole);
        self.fractions = match (self.fractions, more.fractions) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }

    fn total(&self) -> f64 {
        self.whole as f64 + self.fractions.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(aggregate: &str, values: &[&str]) -> Result<String> {
        let pointer = Pointer::parse("").unwrap();
        let aggregate = match aggregate {
            "sum" => Aggregate::Sum(pointer),
            "min" => Aggregate::Min(pointer),
            "max" => Aggregate::Max(pointer),
            "avg" => Aggregate::Avg(pointer),
            other => panic!("{other}"),
        };
        let field = Field::new("f\"", aggregate);
        let mut held = field.of_element(0, values[0])?;
        for value in &values[1..] {
            held.take(field.of_element(0, value)?)?;
        }
        let mut out = Vec::new();
        field.write(&mut out, &held)?;
        let text = String::from_utf8(out).unwrap();
        Ok(text.strip_prefix(",\"f\\\"\":").unwrap().to_owned())
    }

    fn check(aggregate: &str, values: &[&str], expected: &str) {
        assert_eq!(write(aggregate, values).unwrap(), expected, "{aggregate} of {values:?}");
        let turned: Vec<_> = values.iter().rev().copied().collect();
        assert_eq!(write(aggregate, &turned).unwrap(), expected, "{aggregate} of {turned:?}");
    }

    #[test]
    fn whole_sums_are_exact_as_long_as_they_fit() {
        check("sum", &["9223372036854775807", "-1"], "9223372036854775806");
        check("sum", &["9223372036854775807", "1", "-1"], "9223372036854775807");
        check("sum", &["9223372036854775807", "1"], "9.223372036854776e+18");
        check("sum", &["1", "0.5"], "1.5");
        check("sum", &["0.5", "0.5"], "1.0");
        check("sum", &["1e2"], "100.0");
        check("avg", &["1", "2"], "1.5");
        check("avg", &["9007199254740993", "9007199254740993"], "9007199254740992.0");
        // What no number of JSON is.
        check("sum", &["1e308", "1e308"], "null");
    }

    #[test]
    fn the_least_and_the_most_are_told_exactly_and_stay_as_they_are() {
        check("max", &["9007199254740993", "9007199254740992.0"], "9007199254740993");
        check("min", &["9007199254740993", "9007199254740992.0"], "9007199254740992.0");
        check("min", &["1", "1.0"], "1");
        check("max", &["1", "1.0"], "1.0");
        check("min", &["-1.5", "-1", "-2"], "-2");
        check("max", &["-1.5", "-1", "-2"], "-1");
        check("max", &["18446744073709551615", "1e3"], "18446744073709551615");
        check("min", &["-0.0", "0.0"], "-0.0");
    }

    #[test]
    fn what_is_no_number_is_named() {
        for value in ["\"5\"", "null", "true", "[1]", "1e999"] {
            let error = write("sum", &[value]).unwrap_err();
            let expected = format!("the field `` of the element's value is {value}, not a number");
            assert_eq!(error.message(), expected);
        }
    }

    #[test]
    fn fields_that_do_not_fit_are_an_error() {
        let error = Held::Count(1).take(Held::Min(Number::Whole(1))).unwrap_err();
        assert!(error.message().starts_with("the key's windows hold other fields"), "{error}");
    }
}
