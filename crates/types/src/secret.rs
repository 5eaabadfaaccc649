//! Secrets that cannot be printed, serialised or left in memory.

use zeroize::Zeroize;

/// What the token of every workload's box begins with. It is good inside of that box alone.
pub const BOX_TOKEN_PREFIX: &str = "lvm_";

/// A secret value: its `Debug` prints stars, no `Display`, no `Serialize`; wiped when dropped.
///
/// [`Secret::expose`] is called only where the secret leaves for its destination (the `tidy` test keeps the list).
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }
    /// The secret itself. Do not keep, log or copy it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Prints nothing but the fact that it is a secret.
impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The last four characters of a secret behind stars, as the settings pages show it; all stars when it is short.
pub fn masked(secret: &Secret<String>) -> String {
    let text = secret.expose();
    let chars = text.chars().count();
    if chars < 12 {
        return "****".to_owned();
    }
    format!("****{}", text.chars().skip(chars - 4).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("sk-proj-abcdefgh1234".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(masked(&secret), "****1234");
        assert_eq!(masked(&Secret::new("short".to_owned())), "****");
    }
}
