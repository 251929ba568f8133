//! How the built-in operators write down what they keep for a key: the version, then the fields,
//! compactly, as the state of every function is. It is read without copying it.

use crate::function::{Call, FunctionError, Result};
use serde::Deserialize;
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The version of all of these states. Whoever changes one of them raises it, and takes the older
/// one over.
const VERSION: u32 = 1;

/// What the operator keeps for the key, as the callback met it; `None`: nothing.
pub(super) fn load<'a, S: Deserialize<'a>>(call: &Call<'a>) -> Result<Option<S>> {
    let state = call.stored_state().map(decode).transpose();
    state.map_err(|error| error.while_doing("what is kept for the key cannot be read"))
}

fn decode<'a, S: Deserialize<'a>>(bytes: &'a [u8]) -> Result<S> {
    let (version, bytes): (u32, _) = postcard::take_from_bytes(bytes)?;
    if version != VERSION {
        return Err(FunctionError::new(format!(
            "it is of version {version}, and this program reads version {VERSION}"
        )));
    }
    match postcard::take_from_bytes(bytes)? {
        (state, []) => Ok(state),
        (_, rest) => Err(FunctionError::new(format!("{} bytes are left over", rest.len()))),
    }
}

/// Keeps this for the key from now on, or nothing.
pub(super) fn save<S: Serialize>(call: &mut Call<'_>, state: Option<&S>) {
    match state {
        None => call.clear_state(),
        Some(state) => call.write_state(|buffer| {
            Ok(postcard::to_extend(state, postcard::to_extend(&VERSION, buffer)?)?)
        }),
    }
}

/// What was kept, as JSON for people to read. Its fields are the operator's own.
pub(super) fn as_json<'a, S: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Result<String> {
    Ok(serde_json::to_string(&decode::<S>(bytes)?)?)
}

/// A value of an element: in JSON it stands as it came.
pub(super) fn raw_json<S: Serializer>(
    text: impl AsRef<str>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = text.as_ref();
    if serializer.is_human_readable()
        && let Ok(raw) = serde_json::from_str::<&RawValue>(text)
    {
        return raw.serialize(serializer);
    }
    serializer.serialize_str(text)
}
