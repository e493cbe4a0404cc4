//! iptables, where a host forwards through it: beside Docker, or with a policy of its own.

use skep_sys::Cmd;

use super::Error;
use super::nft::{self, Chain, Listing};

/// Where rules of ours are needed: a program and a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    program: &'static str,
    chain: &'static str,
    /// Nobody uses iptables yet; Docker is there, and will when it is started.
    idle: bool,
}

/// Docker's own, which it leaves to its users.
const DOCKER_USER: &str = "DOCKER-USER";

/// An empty chain that says that the table was not there before skep. The old iptables has no such, as its table
/// cannot be deleted.
const MADE: &str = "SKEP-MADE";

/// Returns where rules are needed; none if iptables is not in use, and will not be. Nothing is asked of
/// iptables that is not in use: to ask the old one loads its modules.
///
/// A chain that drops nothing today gets them too: Docker sets its policy to DROP whenever it starts, and leaves
/// the rules there that are not its own.
pub(super) async fn place(chains: &[Chain], docker: bool) -> Result<Option<Place>, Error> {
    let find = |name: &str| {
        chains.iter().any(|it| it.family == "ip" && it.table == "filter" && it.name == name)
    };
    if let Some(chain) = [DOCKER_USER, "FORWARD"].into_iter().find(|name| find(name)) {
        return Ok(Some(Place { program: "iptables", chain, idle: false }));
    }
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if legacy.lines().any(|table| table == "filter") {
        let program = "iptables-legacy";
        let listing = Cmd::new(program).args(["-w", "-S"]).run().await?.text();
        let chain = legacy_chain(&listing);
        return Ok(Some(Place { program, chain, idle: false }));
    }
    Ok(docker.then_some(Place { program: "iptables", chain: "FORWARD", idle: true }))
}

impl Place {
    /// Tells whether rules are missing if there are none.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }
}

/// Returns the rules of the old iptables in nft's language; none if it is not in use, or they cannot be had in that language.
pub(super) async fn legacy_rules() -> Option<Listing> {
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").ok()?;
    tables.lines().find(|table| *table == "filter")?;
    let saved = Cmd::new("iptables-legacy-save").args(["-t", "filter"]).run().await.ok()?;
    let translate = Cmd::new("iptables-restore-translate").args(["-f", "/dev/stdin"]);
    let translated = translate.stdin(saved.stdout).run().await.ok()?;
    Some(Listing::of_commands(&translated.text()))
}

fn legacy_chain(listing: &str) -> &'static str {
    if listing.lines().any(|line| line == "-N DOCKER-USER") { DOCKER_USER } else { "FORWARD" }
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
    if place.idle {
        // What cannot be done here Docker cannot do either, and then it drops nothing.
        if let Err(error) = insert(place, bridge).await {
            tracing::debug!(%error, "iptables cannot be used");
            return Ok(());
        }
        if nft::chains().await?.iter().any(|it| it.table == "filter" && it.name == "FORWARD") {
            // Another skep may have been first.
            drop(Cmd::new(place.program).args(["-w", "-N", MADE]).run().await);
        }
        return Ok(());
    }
    remove_rules(place, bridge).await?;
    insert(place, bridge).await
}

async fn insert(place: &Place, bridge: &str) -> Result<(), Error> {
    for rule in rules(bridge) {
        Cmd::new(place.program).args(["-w", "-I", place.chain]).args(rule).run().await?;
    }
    Ok(())
}

/// Removes a bridge's rules, and the table if it was made for them.
pub(super) async fn remove(place: &Place, bridge: &str) -> Result<(), Error> {
    if place.idle {
        return Ok(());
    }
    remove_rules(place, bridge).await?;
    let listing = list(place).await?;
    match rest(&listing) {
        Rest::Nothing => {
            drop(Cmd::new("nft").args(["delete", "table", "ip", "filter"]).run().await?)
        }
        Rest::OfOthers => drop(Cmd::new(place.program).args(["-w", "-X", MADE]).run().await?),
        Rest::OfUs => (),
    }
    Ok(())
}

/// What is left in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing but the mark that skep has made it.
    Nothing,
    /// Rules of others, and that mark.
    OfOthers,
    /// Rules of skep, or there is no such mark.
    OfUs,
}

fn rest(listing: &str) -> Rest {
    let made = format!("-N {MADE}");
    let idle = |line: &&str| line.starts_with("-P ") && line.ends_with(" ACCEPT");
    if !listing.lines().any(|line| line == made) {
        return Rest::OfUs;
    }
    let others: Vec<_> = listing.lines().filter(|line| *line != made && !idle(line)).collect();
    match others.is_empty() {
        true => Rest::Nothing,
        false if others.iter().any(|line| line.to_lowercase().contains("skep")) => Rest::OfUs,
        false => Rest::OfOthers,
    }
}

async fn remove_rules(place: &Place, bridge: &str) -> Result<(), Error> {
    for rule in marked(&list(place).await?, &mark(bridge)) {
        Cmd::new(place.program).args(["-w", "-D"]).args(rule).run().await?;
    }
    Ok(())
}

/// Returns the bridges that have rules.
pub(super) fn accepted(listing: &str) -> Vec<String> {
    let bridge = |line: &str| {
        let mark = line.split(' ').skip_while(|word| *word != "--comment").nth(1)?;
        Some(mark.trim_matches('"').strip_prefix("skep:")?.to_owned())
    };
    listing.lines().filter_map(bridge).collect()
}

/// Tells whether ufw is on and drops what bridges of clusters send to this host.
pub(super) fn has_ufw(listing: &str) -> bool {
    let has = |wanted: &str| listing.lines().any(|line| line == wanted);
    let is_told = has("-A ufw-user-input -i skep-+ -j ACCEPT");
    has("-N ufw-user-input") && !is_told
}

/// Lists all chains: where the rules were put depends on what was there then.
pub(super) async fn list(place: &Place) -> Result<String, Error> {
    if place.idle {
        return Ok(String::new());
    }
    Ok(Cmd::new(place.program).args(["-w", "-S"]).run().await?.text())
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
    async fn rules_are_needed_where_something_drops_or_docker_may_start() {
        let chain = |name: &str, policy: Option<&str>| Chain {
            family: "ip".into(),
            table: "filter".into(),
            name: name.into(),
            hook: policy.map(|_| "forward".into()),
            policy: policy.map(str::to_owned),
        };
        let chain_of =
            async |chains: &[Chain]| place(chains, false).await.unwrap().map(|it| it.chain);
        let accepting = chain("FORWARD", Some("accept"));
        assert_eq!(chain_of(std::slice::from_ref(&accepting)).await, Some("FORWARD"));
        let with_docker = [accepting, chain(DOCKER_USER, None)];
        assert_eq!(chain_of(&with_docker).await, Some(DOCKER_USER));
        assert_eq!(legacy_chain(LISTING), DOCKER_USER);
        assert_eq!(legacy_chain("-P FORWARD ACCEPT"), "FORWARD");
    }

    #[test]
    fn ufw_is_told_once() {
        let on = "-P INPUT DROP\n-N ufw-user-input\n";
        assert!(has_ufw(on));
        assert!(!has_ufw(&format!("{on}-A ufw-user-input -i skep-+ -j ACCEPT")));
        assert!(!has_ufw(LISTING));
        assert_eq!(accepted(LISTING), ["skep-demo", "skep-demo", "skep-demo-2"]);
    }

    #[test]
    fn a_table_goes_that_only_skep_wanted() {
        let policies = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n";
        let made = format!("{policies}-N SKEP-MADE\n");
        assert_eq!(rest(&made), Rest::Nothing);
        assert_eq!(rest(policies), Rest::OfUs);
        assert_eq!(rest(&made.replace("FORWARD ACCEPT", "FORWARD DROP")), Rest::OfOthers);
        assert_eq!(rest(&format!("{made}-N DOCKER-USER")), Rest::OfOthers);
        assert_eq!(rest(&format!("{made}{LISTING}")), Rest::OfUs);
        assert_eq!(rest(&format!("{made}-N SKEP-HOST-INPUT")), Rest::OfUs);
    }
}
