//! Logs to stderr: text for eyes on a terminal, one JSON object a line elsewhere.
//!
//! Keys and payloads never stand in a log: they are other people's data.

use crate::config::LogFormat;
use std::io::{self, IsTerminal as _};
use std::panic::{self, PanicHookInfo};
use stormwheel::function::caught_panic;
use tracing_subscriber::EnvFilter;

/// Starts logging for the process. An error names what is wrong with the level.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log_level: {error}"))?;
    let on_terminal = io::stderr().is_terminal();
    let as_json = match format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(on_terminal && !as_json);
    let started = if as_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    started.map_err(|error| format!("logging cannot be started: {error}"))
}

/// From now on a panic of a function is one line of the log, however often its callback is tried again.
/// All other panics are told as before.
pub(crate) fn take_panics_of_functions() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !tell_panic_of_function(panic) {
            before(panic);
        }
    }));
}

/// Whether it is a function's, and then told if it is the first of its callback. Not its message, which
/// may repeat what an element says.
fn tell_panic_of_function(panic: &PanicHookInfo<'_>) -> bool {
    let tried = caught_panic();
    if tried == Some(0) {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            place,
            "a function has panicked: where a callback has failed by that, what it says is told among its errors"
        );
    }
    tried.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use stormwheel::function::{Context, KeyedProcessFunction, Operators, Result};
    use stormwheel::namespace::{ErrorPolicy, NamespaceConfig, OnError};
    use stormwheel::testing::Harness;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    struct Panics;

    impl KeyedProcessFunction for Panics {
        type Input = String;
        type State = ();
        type Output = ();

        fn process_element(
            &mut self,
            value: String,
            (): &mut (),
            _: &mut Context<Self::Output>,
        ) -> Result<()> {
            panic!("a secret: {value}")
        }

        fn close(&mut self) {
            panic!("another secret")
        }
    }

    #[test]
    fn a_panic_of_a_function_is_one_line_and_others_are_told_as_before() {
        let others = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&others);
        let before = panic::take_hook();
        // Other tests may panic meanwhile, on threads of their own.
        let own = std::thread::current().id();
        panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == own {
                *counted.lock().unwrap() += 1;
            } else {
                before(panic);
            }
        }));
        take_panics_of_functions();
        let lines = Lines::default();
        let log = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, || {
            let on_error = OnError { retry: 3, backoff_ms: 0, then: ErrorPolicy::Skip };
            let config = NamespaceConfig { on_error, ..NamespaceConfig::default() };
            let mut harness = Harness::with_config(|| Panics, config).unwrap();
            for timestamp in [1, 2] {
                harness.process_element("a", "key and payload", timestamp).unwrap();
            }
            assert_eq!(*others.lock().unwrap(), 0);
            let other = panic::catch_unwind(|| panic!("no function's"));
            assert!(other.is_err() && *others.lock().unwrap() == 1);
            let operators = Operators::default().with("bad", |_| panic!("when it is made"));
            let operator = "bad".to_owned();
            let config = NamespaceConfig { operator, ..NamespaceConfig::default() };
            assert!(operators.check(&config).is_err());
            let count = || String::from_utf8_lossy(&lines.0.lock().unwrap()).lines().count();
            assert_eq!(count(), 3, "one for each callback that failed");
            harness.restart();
            assert!(count() > 3, "instances were closed");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.lines().all(|line| line.contains("a function has panicked")), "{text}");
        assert!(text.contains("logging.rs:") && !text.contains("secret"), "{text}");
    }
}
