//! How messages repeat what they were given.

/// The beginning of a text, short enough to stand in a message.
pub fn clip(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 64;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}
