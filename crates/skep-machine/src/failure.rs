//! How a command fails: docker-machine prints a text and nothing around it.

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What the user is told.
    pub text: String,
}

/// The exit code of a driver's check before it creates anything.
const PRE_CREATE: u8 = 3;

impl Failure {
    /// Creates a failure of the ordinary kind.
    pub fn new(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// Creates a failure of the check before a machine is made.
    pub fn pre_create(cause: &str) -> Self {
        let cause = gotemplate::go_quote(cause);
        Self { code: PRE_CREATE, text: format!("Error with pre-create check: {cause}") }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<skep_store::dm::Error> for Failure {
    fn from(error: skep_store::dm::Error) -> Self {
        Self::new(skep_sys::chain(&error))
    }
}
