//! What docs/operations.md says of signals and exit codes, against a real process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use stormwheel_tests::{Server, fail_stormwheel, wait_until};

/// Sends these signals, each after the one before was heard, while a request is under way whose
/// body never comes; then the process must end with this code and have said this.
fn check(shutdown_timeout: &str, signals: &[&str], code: i32, said: &str) {
    let timeout = format!("shutdown_timeout={shutdown_timeout}");
    let mut server = Server::start_with(&["--set", &timeout, "--set", "http.body_timeout=1h"]);
    let mut stuck = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let head = "PUT /v1/keys/k/timers/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\
                Expect: 100-continue\r\n\r\n";
    stuck.write_all(head.as_bytes()).unwrap();
    // So the server tells that it waits for the body.
    let mut told = [0; 12];
    stuck.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100");
    for signal in signals {
        server.signal(signal);
        wait_until("the signal to be heard", || {
            let log = server.log();
            log.contains(&format!("SIG{signal}")).then_some(()).ok_or(log)
        });
    }
    assert_eq!(server.wait_for_end(), Some(code), "{}", server.log());
    assert!(server.log().contains(said), "{}", server.log());
}

#[test]
fn a_stop_ends_in_time_whatever_a_client_does() {
    check("200ms", &["TERM"], 1, "are cut");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    check("1h", &["TERM", "INT"], 1, "told to stop again");
}

#[test]
fn a_data_directory_that_cannot_be_used_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()];
    let (code, said) = fail_stormwheel(&args);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("data directory cannot be used") && said.contains("file"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
}

#[test]
fn a_stop_with_nothing_under_way_is_clean() {
    let mut server = Server::start();
    server.signal("INT");
    assert_eq!(server.wait_for_end(), Some(0), "{}", server.log());
}
