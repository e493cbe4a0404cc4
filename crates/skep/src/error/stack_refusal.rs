//! What to do when the docker command refuses a stack. Nothing here removes what a stack runs.

/// Words of a refusal, with what mends it; the first row whose words are there counts.
const ADVICE: [(&str, &str); 6] = [
    (
        "is already in use by service",
        "skep stack ls  # publish another port, or remove the stack that uses it",
    ),
    (
        "only updates to Labels are allowed",
        "give the changed config or secret another name: in the stack file, such as NAME_2, and deploy again; \
         Swarm changes neither while it is in use",
    ),
    (
        "declared as external, but could not be found",
        "skep docker -- network create -d overlay --attachable NETWORK  # or create the volume, config or secret",
    ),
    (
        "not in the right scope",
        "skep docker -- network create -d overlay --attachable NETWORK  # services need an overlay network",
    ),
    ("update out of sequence", "run the same command again; somebody changed the stack meanwhile"),
    (
        "already exists",
        "give it another name: in the stack file; something that is not the stack's has this one",
    ),
];

/// Returns what mends a refusal, if it is known.
pub(super) fn advice(said: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(words, _)| said.contains(words)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use crate::error::CliError;
    use skep_ops::Error;

    #[test]
    fn a_refusal_is_advised_what_mends_it_and_never_to_remove_the_stack() {
        let grpc = "Error response from daemon: rpc error: code =";
        for (said, advised) in [
            (
                "network \"proxy\" is declared as external, but could not be found.",
                "network create",
            ),
            (
                &*format!(
                    "failed to update config shop_page: {grpc} InvalidArgument desc = only updates to Labels are allowed"
                ),
                "another name:",
            ),
            (
                &*format!(
                    "failed to update service shop_web: {grpc} Unknown desc = update out of sequence"
                ),
                "again",
            ),
            (
                &*format!(
                    "{grpc} InvalidArgument desc = port '80' is already in use by service 'x'"
                ),
                "stack ls",
            ),
            ("some words that nobody knows", ""),
        ] {
            let refused = Error::StackRefused { stack: "shop".to_owned(), said: said.to_owned() };
            let hints = CliError::from(refused).hints.join("\n");
            assert!(hints.contains(advised), "{said}: {hints}");
            assert!(!hints.contains("stack rm"), "{said}: {hints}");
            assert_eq!(hints.is_empty(), advised.is_empty(), "{said}: {hints}");
        }
    }
}
