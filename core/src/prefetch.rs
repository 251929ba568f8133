//! Asking for a cache line before it is needed. Nothing depends on it but speed.

/// Asks for the line of `it`; does not wait for it.
#[inline]
pub(crate) fn prefetch<T>(it: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(it);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = it;
}
