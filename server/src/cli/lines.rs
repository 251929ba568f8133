//! Cuts a stream of bytes into lines, whatever the pieces it comes in.

/// Longer than any line that the server writes (a payload has at most a mebibyte).
const LINE_BYTES_MAX: usize = 16 << 20;

/// Holds the beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    partial: Vec<u8>,
}

impl LineBuffer {
    /// Hands each line that this piece completes to `each`, without its newline. Empty lines, the
    /// stream's signs of life, are left out. False once a line is longer than any can be.
    pub(crate) fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) -> bool {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            if self.partial.is_empty() {
                if begin < end {
                    each(&piece[begin..end]);
                }
            } else {
                self.partial.extend_from_slice(&piece[begin..end]);
                each(&self.partial);
                self.partial.clear();
            }
            begin = end + 1;
        }
        self.partial.extend_from_slice(&piece[begin..]);
        self.partial.len() <= LINE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_pieces(
            text in "[ab\n]{0,60}",
            cuts in prop::collection::vec(0_usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for pair in cuts.windows(2) {
                buffer.feed(&text.as_bytes()[pair[0]..pair[1]], |line| lines.push(line.to_vec()));
            }
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let expected: Vec<Vec<u8>> = whole
                .split('\n')
                .filter(|line| !line.is_empty())
                .map(|line| line.as_bytes().to_vec())
                .collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
