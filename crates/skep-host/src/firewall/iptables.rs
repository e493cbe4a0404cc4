//! iptables, where a host forwards through it: beside Docker, or with a policy of its own.

use super::Error;
use super::nft::Chain;
use crate::sys::Cmd;

/// Where rules of ours are needed: a program and a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    program: &'static str,
    chain: &'static str,
}

/// Docker's own, which it leaves to its users.
const DOCKER_USER: &str = "DOCKER-USER";

/// Returns where rules are needed; none if iptables forwards everything, or is not in use. Nothing
/// is asked of iptables that is not in use: to ask the old one loads its modules.
pub(super) async fn place(chains: &[Chain]) -> Result<Option<Place>, Error> {
    let find = |name: &str| {
        chains.iter().find(|it| it.family == "ip" && it.table == "filter" && it.name == name)
    };
    if find(DOCKER_USER).is_some() {
        return Ok(Some(Place { program: "iptables", chain: DOCKER_USER }));
    }
    if find("FORWARD").is_some_and(|chain| chain.policy.as_deref() == Some("drop")) {
        return Ok(Some(Place { program: "iptables", chain: "FORWARD" }));
    }
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if !legacy.lines().any(|table| table == "filter") {
        return Ok(None);
    }
    let program = "iptables-legacy";
    let listing = Cmd::new(program).args(["-w", "-S"]).run().await?.text();
    Ok(legacy_chain(&listing).map(|chain| Place { program, chain }))
}

fn legacy_chain(listing: &str) -> Option<&'static str> {
    if listing.lines().any(|line| line == "-N DOCKER-USER") {
        Some(DOCKER_USER)
    } else if listing.lines().any(|line| line == "-P FORWARD DROP") {
        Some("FORWARD")
    } else {
        None
    }
}

/// Returns the rules that let a bridge's packets through: what its guests send, and the answers.
/// Bridged packets pass here too where the host says so (bridge-nf-call-iptables).
fn rules(bridge: &str) -> [Vec<String>; 2] {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let comment = mark(bridge);
    [
        words(&format!("-i {bridge} -m comment --comment {comment} -j ACCEPT")),
        words(&format!(
            "-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED \
             -m comment --comment {comment} -j ACCEPT"
        )),
    ]
}

fn mark(bridge: &str) -> String {
    format!("skep:{bridge}")
}

pub(super) async fn ensure(place: &Place, bridge: &str) -> Result<(), Error> {
    remove(place, bridge).await?;
    for rule in rules(bridge) {
        Cmd::new(place.program).args(["-w", "-I", place.chain]).args(rule).run().await?;
    }
    Ok(())
}

pub(super) async fn remove(place: &Place, bridge: &str) -> Result<(), Error> {
    for rule in marked(&list(place).await?, &mark(bridge)) {
        Cmd::new(place.program).args(["-w", "-D"]).args(rule).run().await?;
    }
    Ok(())
}

/// Returns the bridges that have rules.
pub(super) async fn accepted(place: &Place) -> Result<Vec<String>, Error> {
    let listing = list(place).await?;
    let bridge = |line: &str| {
        let mark = line.split(' ').skip_while(|word| *word != "--comment").nth(1)?;
        Some(mark.trim_matches('"').strip_prefix("skep:")?.to_owned())
    };
    Ok(listing.lines().filter_map(bridge).collect())
}

async fn list(place: &Place) -> Result<String, Error> {
    Ok(Cmd::new(place.program).args(["-w", "-S", place.chain]).run().await?.text())
}

/// Returns the rules that carry a mark, as arguments of `-D`.
fn marked(listing: &str, mark: &str) -> Vec<Vec<String>> {
    let carries =
        |words: &[String]| words.windows(2).any(|pair| pair[0] == "--comment" && pair[1] == mark);
    listing
        .lines()
        .filter_map(|line| line.strip_prefix("-A "))
        .map(|rule| rule.split(' ').map(|word| word.trim_matches('"').to_owned()).collect())
        .filter(|words: &Vec<String>| carries(words))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = r#"-P FORWARD DROP
-N DOCKER-USER
-A DOCKER-USER -o skep-demo -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "skep:skep-demo" -j ACCEPT
-A DOCKER-USER -i skep-demo -m comment --comment "skep:skep-demo" -j ACCEPT
-A DOCKER-USER -i skep-demo-2 -m comment --comment "skep:skep-demo-2" -j ACCEPT
-A DOCKER-USER -j RETURN"#;

    #[test]
    fn only_rules_with_the_very_mark_are_removed() {
        let rules = marked(LISTING, "skep:skep-demo");
        assert_eq!(rules.len(), 2);
        assert_eq!(
            rules[1].join(" "),
            "DOCKER-USER -i skep-demo -m comment --comment skep:skep-demo -j ACCEPT"
        );
    }

    #[tokio::test]
    async fn rules_are_needed_where_something_drops() {
        let chain = |name: &str, policy: Option<&str>| Chain {
            family: "ip".into(),
            table: "filter".into(),
            name: name.into(),
            hook: policy.map(|_| "forward".into()),
            policy: policy.map(str::to_owned),
        };
        let chain_of = async |chains: &[Chain]| place(chains).await.unwrap().map(|it| it.chain);
        let accepting = chain("FORWARD", Some("accept"));
        assert_eq!(chain_of(std::slice::from_ref(&accepting)).await, None);
        assert_eq!(chain_of(&[chain("FORWARD", Some("drop"))]).await, Some("FORWARD"));
        let with_docker = [accepting, chain(DOCKER_USER, None)];
        assert_eq!(chain_of(&with_docker).await, Some(DOCKER_USER));
        assert_eq!(legacy_chain(LISTING), Some(DOCKER_USER));
        assert_eq!(legacy_chain("-P FORWARD ACCEPT"), None);
    }
}
