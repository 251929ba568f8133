//! Arguments, medians, tables and files of the binaries that measure the core and its peers.

use serde_json::Value;
use std::io::{Error, Result, Write, stdout};

/// What a binary was asked for.
#[derive(Debug)]
pub struct Asked {
    /// Numbers of timers.
    pub counts: Vec<u32>,
    /// How often each is measured.
    pub rounds: usize,
    /// Whom to measure.
    pub subjects: Vec<String>,
    /// Lengths of keys.
    pub key_bytes: Vec<usize>,
    /// Where the figures go besides the table.
    pub json: Option<String>,
}

impl Asked {
    /// Reads what stands in `args` over what is there already.
    pub fn read(mut self, args: &[String]) -> Result<Self> {
        let (mut args, mut counts) = (args.iter(), Vec::new());
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().ok_or_else(|| Error::other(format!("{arg} needs a value")));
            match arg.as_str() {
                "--rounds" => self.rounds = number(value()?)?,
                "--only" => self.subjects = value()?.split(',').map(str::to_owned).collect(),
                "--key-bytes" => {
                    self.key_bytes = value()?.split(',').map(number).collect::<Result<_>>()?;
                }
                "--json" => self.json = Some(value()?.clone()),
                count => counts.push(number(count)?),
            }
        }
        if !counts.is_empty() {
            self.counts = counts;
        }
        Ok(self)
    }

    /// Writes the figures to the file that was asked for.
    pub fn keep(&self, found: &Value) -> Result<()> {
        match &self.json {
            Some(path) => std::fs::write(path, format!("{found:#}\n")),
            None => Ok(()),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::other(format!("`{text}` is no argument that is known here")))
}

/// The one in the middle; NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

/// Prints a row: its name, and cells to the right of it.
pub fn row(name: &str, cells: impl IntoIterator<Item = String>) -> Result<()> {
    let mut line = format!("  {name:<28}");
    for cell in cells {
        line = format!("{line} {cell:>15}");
    }
    writeln!(stdout(), "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn arguments_stand_over_defaults() {
        let asked = || Asked {
            counts: vec![7],
            rounds: 1,
            subjects: Vec::new(),
            key_bytes: vec![15],
            json: None,
        };
        let read = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            asked().read(&args)
        };
        let some = read("10 20 --rounds 3 --only core,btree_set --json f").unwrap();
        assert_eq!((some.counts, some.rounds, some.key_bytes), (vec![10, 20], 3, vec![15]));
        assert_eq!((some.subjects.len(), some.json.as_deref()), (2, Some("f")));
        assert_eq!(read("").unwrap().counts, [7]);
        assert!(read("--round 3").is_err());
        assert!(read("--rounds").is_err());
    }
}
