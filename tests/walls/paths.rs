//! The paths that a Rust file names, with `use` trees spread out and `self` and `super` resolved.
//!
//! Works on tokens, so it also sees into macro calls, and never into comments or strings. It does
//! not know which names are in scope: `use std::time;` followed by `time::Instant` is reported as
//! the path `std::time`, which the purity wall therefore bans as a whole.

use crate::sources::{Source, module_of};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Words after which a path may start with `::`.
const LEADING_WORDS: [&str; 8] = ["use", "as", "dyn", "impl", "in", "return", "match", "mut"];

/// One path as it is written, from its first segment (`crate`, `std`, the name of a crate).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its segments; a glob is `*`.
    pub(crate) segments: Vec<String>,
    /// The line on which it starts.
    pub(crate) line: usize,
    /// Whether it stands in an inline module called `tests`.
    pub(crate) in_tests: bool,
}

impl NamedPath {
    /// The path as text.
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// Every path of two segments or more that a file of the core names, and what a breach of a wall
/// says of it: file, line and path.
pub(crate) fn placed_paths(source: &Source) -> impl Iterator<Item = (NamedPath, String)> + '_ {
    named_paths(&source.text, &module_of(&source.path)).into_iter().map(|path| {
        let place = format!("{}:{} names {}", source.path, path.line, path.text());
        (path, place)
    })
}

/// Every path of two segments or more in a file whose module is `module`.
pub(crate) fn named_paths(text: &str, module: &[String]) -> Vec<NamedPath> {
    let stream: TokenStream = text.parse().expect("the compiler has accepted this file");
    let mut found = Vec::new();
    walk(stream, module, false, &mut found);
    found
}

fn walk(stream: TokenStream, module: &[String], in_tests: bool, found: &mut Vec<NamedPath>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut index = 0;
    while index < tokens.len() {
        match &tokens[index] {
            TokenTree::Ident(word) if LEADING_WORDS.iter().any(|leading| word == leading) => {
                index += 1;
            }
            TokenTree::Ident(ident) if !goes_on(&tokens, index) => {
                let line = ident.span().start().line;
                if let Some((name, body)) = inline_module(&tokens, index) {
                    let mut inner = module.to_vec();
                    inner.push(name.clone());
                    walk(body, &inner, in_tests || name == "tests", found);
                    index += 3;
                    continue;
                }
                let mut paths = Vec::new();
                index = read_path(&tokens, index, &[], &mut paths);
                for segments in paths {
                    if segments.len() > 1 {
                        found.push(NamedPath {
                            segments: resolve(segments, module),
                            line,
                            in_tests,
                        });
                    }
                }
            }
            TokenTree::Group(group) => {
                walk(group.stream(), module, in_tests, found);
                index += 1;
            }
            _ => index += 1,
        }
    }
}

/// `mod name { body }`, starting at the word `mod`.
fn inline_module(tokens: &[TokenTree], index: usize) -> Option<(String, TokenStream)> {
    match (&tokens[index], tokens.get(index + 1)?, tokens.get(index + 2)?) {
        (TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body))
            if word == "mod" && body.delimiter() == Delimiter::Brace =>
        {
            Some((name.to_string(), body.stream()))
        }
        _ => None,
    }
}

/// Reads one path or `use` tree at `index` and gives the index behind it. A path that goes on after
/// a generic argument (`Vec::<T>::new`) ends before it: what follows names nothing new.
fn read_path(
    tokens: &[TokenTree],
    mut index: usize,
    prefix: &[String],
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(index) {
        match token {
            TokenTree::Ident(ident) => segments.push(ident.to_string()),
            TokenTree::Punct(star) if star.as_char() == '*' && !segments.is_empty() => {
                segments.push("*".to_owned());
            }
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Brace && !segments.is_empty() =>
            {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut at = 0;
                while at < inner.len() {
                    let next = read_path(&inner, at, &segments, paths);
                    at = skip_to_comma(&inner, next.max(at));
                }
                return index + 1;
            }
            _ => break,
        }
        index += 1;
        if !colons_at(tokens, index) {
            break;
        }
        index += 2;
    }
    paths.push(segments);
    index
}

/// The index behind the next comma: what `use` trees put there is at most `as name`.
fn skip_to_comma(tokens: &[TokenTree], mut index: usize) -> usize {
    while let Some(token) = tokens.get(index) {
        index += 1;
        if is_punct(Some(token), ',') {
            break;
        }
    }
    index
}

fn resolve(mut segments: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base = match segments[0].as_str() {
        "self" | "super" => module.to_vec(),
        _ => return segments,
    };
    while let Some(first) = segments.first() {
        match first.as_str() {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        segments.remove(0);
    }
    let mut resolved = vec!["crate".to_owned()];
    resolved.append(&mut base);
    resolved.append(&mut segments);
    resolved
}

/// Whether a word goes on with a path whose start lies in a generic argument: `Vec::<T>::new`,
/// `<T as Trait>::new`.
fn goes_on(tokens: &[TokenTree], index: usize) -> bool {
    index >= 3 && colons_at(tokens, index - 2) && is_punct(tokens.get(index - 3), '>')
}

fn colons_at(tokens: &[TokenTree], index: usize) -> bool {
    is_punct(tokens.get(index), ':') && is_punct(tokens.get(index + 1), ':')
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let module = ["wheel".to_owned(), "level".to_owned()];
        let found: Vec<String> = named_paths(text, &module).iter().map(NamedPath::text).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn use_trees_are_spread_out() {
        check(
            "use crate::{time::{Timestamp, Domain as D}, op::*};",
            &["crate::time::Timestamp", "crate::time::Domain", "crate::op::*"],
        );
        check("use std::time::{self, Duration};", &["std::time::self", "std::time::Duration"]);
        check("pub(crate) use ::std::io;", &["std::io"]);
    }

    #[test]
    fn self_and_super_become_whole_paths() {
        check("use super::super::op::Op;", &["crate::op::Op"]);
        check("use self::bucket::Bucket;", &["crate::wheel::level::bucket::Bucket"]);
        check("mod tests { use super::*; }", &["crate::wheel::level::*"]);
    }

    #[test]
    fn expressions_and_macros_count_and_comments_and_strings_do_not() {
        check("fn f() { vec![std::fs::read(x)] }", &["std::fs::read"]);
        check("// std::fs::read\nconst A: &str = \"std::fs::read\";", &[]);
        check("fn f(x: Option<crate::op::Op>) { let y = 2 * x; }", &["crate::op::Op"]);
        check("fn f() { Vec::<std::env::Args>::new() }", &["std::env::Args"]);
        check("fn f() { a::b { c: d::e } }", &["a::b", "d::e"]);
        check("macro_rules! m { () => { $crate::op::Op } }", &["crate::op::Op"]);
    }

    #[test]
    fn what_stands_in_tests_is_marked() {
        let paths = named_paths("use a::b; mod tests { use c::d; }", &[]);
        let marks: Vec<bool> = paths.iter().map(|path| path.in_tests).collect();
        assert_eq!(marks, [false, true]);
    }
}
