//! How the state of a key is written down: the number of its version, then its fields, compactly.
//!
//! A key whose state is written down as a new one's would be has none: so what equals the default
//! is not stored, and a key that goes back to it, and has no timers, costs nothing.

use super::error::{FunctionError, Result};
use postcard::{take_from_bytes, to_extend};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends a state and the version of its type.
pub(super) fn encode<S: Serialize>(out: Vec<u8>, version: u32, state: &S) -> Result<Vec<u8>> {
    Ok(to_extend(state, to_extend(&version, out)?)?)
}

/// How a new state is written down; refused if its type cannot be read back.
pub(super) fn encode_new<S: Default + Serialize + DeserializeOwned>(
    version: u32,
) -> Result<Vec<u8>> {
    let check = || -> Result<Vec<u8>> {
        let new_state = encode(Vec::new(), version, &S::default())?;
        decode::<S>(split_version(&new_state)?.1)?;
        Ok(new_state)
    };
    check().map_err(|error| error.while_doing("the state's type cannot be read back"))
}

/// A state as it was written down, by this version of its type or one that is taken over.
pub(super) fn read<S: DeserializeOwned>(
    bytes: &[u8],
    version: u32,
    migrate: impl FnOnce(u32, &[u8]) -> Result<S>,
) -> Result<S> {
    let (its_version, bytes) = split_version(bytes)?;
    if its_version == version { decode(bytes) } else { migrate(its_version, bytes) }
}

/// The version of a state that was written down, and the rest of it.
fn split_version(bytes: &[u8]) -> Result<(u32, &[u8])> {
    let (version, rest) = take_from_bytes(bytes)?;
    Ok((version, rest))
}

/// The version that a state was written down with, if a function over types did so.
pub fn state_version(state: &[u8]) -> Option<u32> {
    split_version(state).ok().map(|(version, _)| version)
}

/// A state as it was written down, without its version.
fn decode<S: DeserializeOwned>(bytes: &[u8]) -> Result<S> {
    match take_from_bytes(bytes)? {
        (state, []) => Ok(state),
        (_, rest) => Err(FunctionError::new(format!("{} bytes are left over", rest.len()))),
    }
}
