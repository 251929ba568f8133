//! The layers of the configuration: defaults < TOML file < environment < flags.
//!
//! Each layer is a list of dotted keys with values, laid over the table of the layer below. A key
//! that the defaults do not have is unknown and an error, wherever it stands; so a mistyped name
//! never goes unnoticed. Every key remembers which layer it came from.

use super::ServerConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Environment variables that are ours start so.
const PREFIX: &str = "STORMWHEEL_";
/// Names the file instead of `--config`.
const CONFIG_VARIABLE: &str = "STORMWHEEL_CONFIG";
/// Read if it is there and no other file is named.
const CONFIG_FILE: &str = "stormwheel.toml";
/// Variables of the client commands, which share the environment with the service. A test in `cli`
/// holds them to what the commands read.
pub(crate) const CLIENT_VARIABLES: [&str; 2] = ["STORMWHEEL_NAMESPACE", "STORMWHEEL_SERVER"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// What the layers are read from. Tests fill it by hand.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The folder in which `stormwheel.toml` is looked for.
    pub folder: PathBuf,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags that were given, by dotted key.
    pub flags: Vec<(String, String)>,
}

/// The configuration that holds, and where each key came from.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The values.
    pub config: ServerConfig,
    origins: BTreeMap<String, (Value, Origin)>,
}

impl Layers {
    /// Reads and checks all layers.
    pub fn load(&self) -> Result<Effective, String> {
        let mut merged = Merge::new()?;
        let mut variables = BTreeMap::new();
        let mut file = self.file.clone();
        for (name, value) in &self.environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if CLIENT_VARIABLES.contains(&name) {
                continue;
            }
            let value =
                value.to_str().ok_or_else(|| format!("{name} in the environment is not UTF-8"))?;
            if name == CONFIG_VARIABLE {
                file = file.or_else(|| Some(PathBuf::from(value)));
            } else {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some(path) = file.or_else(|| self.present_default_file()) {
            merged.lay_file(&path)?;
        }
        for (name, value) in variables {
            let key = merged.key_of_variable(&name)?;
            merged.lay_text(&key, &value, &Origin::Environment(name))?;
        }
        for (key, value) in &self.flags {
            merged.lay_text(key, value, &Origin::Flag)?;
        }
        merged.config.validate()?;
        Ok(Effective { config: merged.config, origins: merged.origins })
    }

    fn present_default_file(&self) -> Option<PathBuf> {
        let path = self.folder.join(CONFIG_FILE);
        path.is_file().then_some(path)
    }
}

impl Effective {
    /// The table of `config show`: TOML, with the origin of each value behind it.
    pub fn render(&self) -> String {
        use fmt::Write as _;
        let mut lines = Vec::new();
        let mut section = "";
        // Keys without a section come first: in TOML nothing can leave a section again.
        let (plain, dotted): (Vec<_>, Vec<_>) =
            self.origins.iter().partition(|(key, _)| !key.contains('.'));
        for (key, (value, origin)) in plain.into_iter().chain(dotted) {
            let (table, leaf) = key.rsplit_once('.').unwrap_or(("", key));
            if table != section {
                section = table;
                lines.push((format!("\n[{table}]"), None));
            }
            lines.push((format!("{leaf} = {value}"), Some(origin)));
        }
        let width = lines
            .iter()
            .filter(|(_, origin)| origin.is_some())
            .map(|(line, _)| line.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (line, origin) in lines {
            let written = match origin {
                Some(origin) => writeln!(text, "{line:width$}  # {origin}"),
                None => writeln!(text, "{line}"),
            };
            debug_assert!(written.is_ok(), "writing to a string does not fail");
        }
        text
    }
}

/// The layers so far, as a table and as the struct made from it.
struct Merge {
    table: Table,
    config: ServerConfig,
    origins: BTreeMap<String, (Value, Origin)>,
}

impl Merge {
    fn new() -> Result<Self, String> {
        let config = ServerConfig::default();
        let table = Table::try_from(&config).map_err(|error| error.to_string())?;
        let origins = flatten(&table)
            .into_iter()
            .map(|(key, value)| (key, (value, Origin::Default)))
            .collect();
        Ok(Self { table, config, origins })
    }

    fn lay_file(&mut self, path: &Path) -> Result<(), String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the configuration {shown}: {error}"))?;
        let table: Table = text.parse().map_err(|error| format!("{shown}: {error}"))?;
        for (key, value) in flatten(&table) {
            self.lay(&key, value, &Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    fn key_of_variable(&self, name: &str) -> Result<String, String> {
        self.origins
            .keys()
            .find(|key| variable_of(key) == name)
            .cloned()
            .ok_or_else(|| {
                format!("{name} in the environment is not a key of the configuration (see `stormwheel config show`)")
            })
    }

    /// Text from the environment or a flag takes the type that the key has.
    fn lay_text(&mut self, key: &str, text: &str, origin: &Origin) -> Result<(), String> {
        let value = match self.origins.get(key) {
            Some((Value::Integer(_), _)) => text
                .parse()
                .map(Value::Integer)
                .map_err(|_| format!("{key} ({origin}): `{text}` is not a whole number"))?,
            Some((Value::Boolean(_), _)) => text
                .parse()
                .map(Value::Boolean)
                .map_err(|_| format!("{key} ({origin}): `{text}` is neither true nor false"))?,
            _ => Value::String(text.to_owned()),
        };
        self.lay(key, value, origin)
    }

    fn lay(&mut self, key: &str, value: Value, origin: &Origin) -> Result<(), String> {
        let Some(standing) = self.origins.get_mut(key) else {
            return Err(format!(
                "{key} ({origin}) is not a key of the configuration (see `stormwheel config show`)"
            ));
        };
        let mut table = self.table.clone();
        let mut at = &mut table;
        let mut path = key.split('.').peekable();
        while let Some(part) = path.next() {
            if path.peek().is_none() {
                at.insert(part.to_owned(), value.clone());
                break;
            }
            match at.get_mut(part) {
                Some(Value::Table(inner)) => at = inner,
                _ => return Err(format!("{key} ({origin}): `{part}` is not a section")),
            }
        }
        // Read back after every key: what is wrong is then the fault of this one.
        self.config = ServerConfig::deserialize(table.clone())
            .map_err(|error| format!("{key} ({origin}): {}", error.message()))?;
        self.table = table;
        *standing = (value, origin.clone());
        Ok(())
    }
}

/// `clock.max_step` is `STORMWHEEL_CLOCK_MAX_STEP`.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// A table's leaves by dotted key.
fn flatten(table: &Table) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => leaves.extend(
                flatten(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)),
            ),
            _ => leaves.push((key.clone(), value.clone())),
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Layers {
        let folder = tempfile::tempdir().unwrap().keep();
        if !file.is_empty() {
            std::fs::write(folder.join(CONFIG_FILE), file).unwrap();
        }
        Layers {
            file: None,
            folder,
            environment: environment
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            flags: flags
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn check_refused(layers: &Layers, part: &str) {
        let message = layers.load().unwrap_err();
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn each_layer_lies_over_the_one_below_and_is_named() {
        let file = "shards = 3\nlanes = 32\n[clock]\nmax_step = \"2h\"\n";
        let environment = [
            ("STORMWHEEL_LANES", "64"),
            ("STORMWHEEL_HTTP_BODY_BYTES_MAX", "2MiB"),
            ("HOME", "/nowhere"),
        ];
        let effective = layers(file, &environment, &[("listen", "127.0.0.1:0")]).load().unwrap();
        let config = &effective.config;
        assert_eq!((config.shards, config.lanes), (3, 64));
        assert_eq!(config.clock.max_step, super::super::Span::seconds(7_200));
        assert_eq!(config.http.body_bytes_max, super::super::ByteSize(2 << 20));
        assert_eq!(config.listen.port(), 0);
        let shown = effective.render();
        let line = |start: &str| {
            shown
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("{start} is not in {shown}"))
        };
        assert!(line("shards = 3").contains("# file "));
        assert!(line("lanes = 64").ends_with("# env STORMWHEEL_LANES"));
        assert!(line("listen = ").ends_with("# flag"));
        assert!(line("pin = false").ends_with("# default"));
        assert!(shown.contains("\n[clock]\n"));
        // What is shown can be read again.
        assert!(shown.parse::<Table>().is_ok());
    }

    #[test]
    fn an_unknown_key_is_named_wherever_it_stands() {
        check_refused(&layers("shard = 3\n", &[], &[]), "shard (file ");
        check_refused(&layers("[clock]\nstep = 3\n", &[], &[]), "clock.step");
        check_refused(&layers("", &[("STORMWHEEL_SHARD", "3")], &[]), "STORMWHEEL_SHARD");
        check_refused(&layers("", &[], &[("htp.x", "3")]), "htp.x (flag)");
    }

    #[test]
    fn variables_of_the_client_commands_are_passed_over() {
        let variables = CLIENT_VARIABLES.map(|name| (name, "x"));
        let config = layers("", &variables, &[]).load().unwrap().config;
        assert_eq!(config, ServerConfig::default());
    }

    #[test]
    fn a_wrong_value_is_blamed_on_its_key_and_layer() {
        check_refused(&layers("shards = \"x\"\n", &[], &[]), "shards (file ");
        check_refused(
            &layers("", &[("STORMWHEEL_PIN", "maybe")], &[]),
            "pin (env STORMWHEEL_PIN): `maybe`",
        );
        check_refused(&layers("", &[], &[("clock.max_step", "10")]), "clock.max_step (flag)");
        check_refused(&layers("", &[], &[("clock.on_step", "leap")]), "clock.on_step (flag)");
        check_refused(&layers("", &[], &[("shards", "0")]), "shards");
        check_refused(&layers("", &[], &[("ack", "maybe")]), "ack (flag)");
    }

    #[test]
    fn the_file_is_found_by_flag_then_variable_then_folder() {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), "shards = 7").unwrap();
        let path = named.path().to_str().unwrap();
        let mut by_variable = layers("shards = 3", &[("STORMWHEEL_CONFIG", path)], &[]);
        assert_eq!(by_variable.load().unwrap().config.shards, 7);
        by_variable.file = Some(PathBuf::from("/does/not/exist.toml"));
        check_refused(&by_variable, "/does/not/exist.toml");
    }
}
