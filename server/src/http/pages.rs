//! Pages for people: where to start, and what a problem means. Plain HTML without scripts.

use crate::wire::problem::Kind;
use std::fmt::Write as _;
use std::net::SocketAddr;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5d6b7a;--line:#dde3ea;--accent:#0b6bcb;--code:#f4f6f9}\
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9aa8b7;--line:#2c3846;--accent:#6cb4ff;--code:#18212c}}\
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);max-width:46rem;margin:3.5rem auto;padding:0 1.2rem}\
h1{font-size:1.7rem;margin:0 0 .2rem;letter-spacing:-.01em}h2{font-size:1.05rem;margin:2.2rem 0 .5rem}\
p.lead{color:var(--soft);margin:.1rem 0 1.6rem}a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}\
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;overflow-x:auto;font:13px/1.5 ui-monospace,monospace}\
code{font:.88em ui-monospace,monospace}ul{list-style:none;padding:0}li{padding:.45rem 0;border-bottom:1px solid var(--line)}\
b.status{font:600 .8rem ui-monospace,monospace;color:var(--soft);display:inline-block;width:3rem}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title} · Stormwheel</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The commands of the first minute.
fn first_steps(local: SocketAddr) -> [(&'static str, String); 4] {
    [
        ("Watch what fires", format!("curl -N 'http://{local}/v1/outputs?cursor=latest'")),
        (
            "Let something fire in two seconds",
            format!(
                "curl -X PUT http://{local}/v1/keys/order-17/timers/expiry -d '{{\"after\":\"2s\",\"payload\":{{\"n\":1}}}}'"
            ),
        ),
        ("Cancel it", format!("curl -X DELETE http://{local}/v1/keys/order-17/timers/expiry")),
        ("See the storm before it comes", format!("curl http://{local}/v1/forecast")),
    ]
}

const LINKS: [(&str, &str); 5] = [
    ("/v1/namespaces", "namespaces"),
    ("/readyz?verbose", "health"),
    ("/metrics", "figures for Prometheus"),
    ("/openapi.json", "every call (OpenAPI 3.1)"),
    ("/problems", "what can go wrong, and what to do"),
];

/// `/` for a browser.
pub(super) fn home_html(local: SocketAddr) -> String {
    let mut body = String::from(
        "<h1>Stormwheel</h1><p class=\"lead\">Keyed timers that fire at their time, and never before.</p>",
    );
    for (title, command) in first_steps(local) {
        let command = escape(&command);
        let _ = write!(body, "<h2>{title}</h2><pre>{command}</pre>");
    }
    body.push_str("<h2>Look around</h2><ul>");
    for (path, what) in LINKS {
        let _ = write!(body, "<li><a href=\"{path}\"><code>{path}</code></a> {what}</li>");
    }
    body.push_str("</ul>");
    page("Start", &body)
}

/// `/` for a terminal.
pub(super) fn home_text(local: SocketAddr) -> String {
    let mut text =
        String::from("Stormwheel: keyed timers that fire at their time, and never before.\n");
    for (title, command) in first_steps(local) {
        let _ = write!(text, "\n{title}:\n  {command}\n");
    }
    text.push('\n');
    for (path, what) in LINKS {
        let _ = writeln!(text, "{path:18} {what}");
    }
    text
}

/// `/problems` for a browser.
pub(super) fn problems_html(kinds: &[&Kind]) -> String {
    let mut body = String::from(
        "<h1>Problems</h1><p class=\"lead\">All that can go wrong, and what to do.</p><ul>",
    );
    for kind in kinds {
        let _ = write!(
            body,
            "<li><b class=\"status\">{}</b><a href=\"/problems/{}\">{}</a></li>",
            kind.status,
            kind.slug,
            escape(kind.title)
        );
    }
    body.push_str("</ul>");
    page("Problems", &body)
}

/// `/problems` for a terminal.
pub(super) fn problems_text(kinds: &[&Kind]) -> String {
    let mut text = String::new();
    for kind in kinds {
        let _ = writeln!(text, "{} {:26} {}", kind.status, kind.slug, kind.title);
    }
    text
}

/// `/problems/{slug}` for a browser.
pub(super) fn problem_html(kind: &Kind) -> String {
    let mut body = format!(
        "<h1>{}</h1><p class=\"lead\"><code>{}</code>, status {}</p>",
        escape(kind.title),
        kind.slug,
        kind.status
    );
    for paragraph in kind.help.split("\n\n") {
        let _ = write!(body, "<p>{}</p>", escape(paragraph));
    }
    body.push_str("<p><a href=\"/problems\">All problems</a></p>");
    page(&escape(kind.title), &body)
}

/// `/problems/{slug}` for a terminal.
pub(super) fn problem_text(kind: &Kind) -> String {
    format!("{} ({}, status {})\n\n{}\n", kind.title, kind.slug, kind.status, kind.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_escape_what_they_show() {
        let kind =
            Kind { slug: "odd", status: 400, title: "a < b & c", help: "first\n\nsecond <script>" };
        let html = problem_html(&kind);
        assert!(html.contains("a &lt; b &amp; c"));
        assert!(html.contains("<p>second &lt;script&gt;</p>"));
        assert!(problem_text(&kind).starts_with("a < b & c (odd, status 400)"));
    }

    #[test]
    fn home_shows_commands_for_where_it_listens() {
        let local = SocketAddr::from(([127, 0, 0, 1], 7411));
        assert!(home_text(local).contains("curl -X PUT http://127.0.0.1:7411/v1/keys/"));
        assert!(home_html(local).contains("http://127.0.0.1:7411/v1/outputs"));
    }
}
