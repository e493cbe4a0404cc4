//! What has to be known of a host before anything is done to it, and what forbids that it is done.

use std::collections::BTreeMap;

use skep_net::host_firewall::{Backend, Detected};

/// The oldest engine whose API skep speaks (Docker Engine release notes: API 1.44 came with 25.0).
const OLDEST_ENGINE: u32 = 25;

/// What an engine and a few images take at least, in KiB.
const ROOM: u64 = 2 << 20;

/// What was found on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    words: BTreeMap<String, String>,
    packages: Vec<String>,
}

impl Facts {
    /// Reads what `look.sh` printed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut facts = Self::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            // A terminal may show it, and a host is not ours.
            let rest: String = rest.chars().filter(|c| !c.is_control()).take(400).collect();
            let rest = rest.trim().to_owned();
            match word {
                "packages" => facts.packages.push(rest),
                _ => drop(facts.words.insert(word.to_owned(), rest)),
            }
        }
        facts
    }

    fn word(&self, key: &str) -> &str {
        self.words.get(key).map_or("", String::as_str)
    }

    /// Tells what system it is, such as `Debian GNU/Linux 13 (trixie)`.
    #[must_use]
    pub fn system(&self) -> &str {
        self.word("os")
    }

    /// Tells whether an engine is there, and was not left half installed.
    #[must_use]
    pub fn has_engine(&self) -> bool {
        !self.word("engine").is_empty() && self.word("unfinished").is_empty()
    }

    /// Tells how many containers run.
    #[must_use]
    pub fn containers(&self) -> u32 {
        self.word("containers").parse().unwrap_or(0)
    }

    /// Tells whether the host is that owner's already.
    #[must_use]
    pub fn belongs_to(&self, owner: &str) -> bool {
        self.word("owner") == owner
    }

    /// Returns the short name of its system, such as `debian`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.word("family").split(' ').next().unwrap_or_default()
    }

    /// Returns everything that forbids the host to become a node of `owner`.
    #[must_use]
    pub fn problems(&self, owner: &str) -> Vec<String> {
        let mut problems = self.unfit_for(owner);
        if !self.belongs_to(owner) && !["", "inactive"].contains(&self.word("swarm")) {
            problems.push(format!(
                "its engine is in another swarm ({}); let it leave first, there: docker swarm leave",
                self.word("swarm")
            ));
        }
        let version = self.engine_version().filter(|it| self.has_engine() && *it < OLDEST_ENGINE);
        if let Some(version) = version {
            problems.push(format!(
                "its engine is Docker {version}; it has to be {OLDEST_ENGINE} or newer"
            ));
        }
        problems
    }

    /// Returns everything that forbids the host to be set up for itself.
    #[must_use]
    pub fn unfit(&self) -> Vec<String> {
        self.unfit_for("")
    }

    fn unfit_for(&self, owner: &str) -> Vec<String> {
        let mut problems = Vec::new();
        if self.word("user") != "0" {
            problems.push("sudo does not make the user root there".to_owned());
        }
        if self.word("init") != "systemd" {
            problems.push(format!(
                "{} does not run under systemd, which starts the engine",
                self.system()
            ));
        }
        if !self.word("owner").is_empty() && !self.belongs_to(owner) {
            let other = self.word("owner").split(' ').next().unwrap_or_default();
            problems.push(format!(
                "it is a node of another cluster, {other}; remove it there first (skep node rm), or, if \
                 that cluster is no more: rm -r /var/lib/skep there"
            ));
        }
        if !self.has_engine() {
            if self.packages.is_empty() {
                let text = "it has no engine, and neither apt-get nor dnf to install one";
                problems.push(text.to_owned());
            }
            if self.word("free").parse().is_ok_and(|free: u64| free < ROOM) {
                problems.push("less than 2 GiB are free in /var/lib".to_owned());
            }
        }
        let listener = self.word("listener");
        if !listener.is_empty() && listener != "dockerd" {
            problems.push(format!("port 2376 is taken there, by {listener}"));
        }
        problems
    }

    /// Returns what its user has to know beforehand.
    #[must_use]
    pub fn warnings(&self, owner: &str) -> Vec<String> {
        self.restart_warning().filter(|_| !self.belongs_to(owner)).into_iter().collect()
    }

    /// Returns what happens to containers that run there, if any do.
    #[must_use]
    pub fn restart_warning(&self) -> Option<String> {
        let count = Some(self.containers()).filter(|count| self.has_engine() && *count > 0)?;
        Some(format!("its engine is started anew, and with it {count} containers"))
    }

    /// Returns its firewall, if that may keep anybody out.
    #[must_use]
    pub fn closed_firewall(&self) -> Option<Backend> {
        let detected = Detected::parse(self.word("firewall"))?;
        detected.closed.then_some(detected.backend)
    }

    fn engine_version(&self) -> Option<u32> {
        let version = self.word("engine").split("version ").nth(1)?;
        version.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "demo 0123";

    fn facts(more: &str) -> Facts {
        Facts::parse(&format!(
            "os Debian GNU/Linux 13 (trixie)\nuser 0\ninit systemd\npackages apt-get\nfree 9000000\n{more}"
        ))
    }

    #[test]
    fn a_plain_host_is_fit() {
        let plain = facts("");
        assert!(plain.problems(OWNER).is_empty() && !plain.has_engine());
        assert_eq!(plain.system(), "Debian GNU/Linux 13 (trixie)");
    }

    #[test]
    fn an_engine_counts_when_its_installation_was_finished() {
        let engine = "engine Docker version 26.1.5+dfsg1, build a72d7cd\n";
        assert!(facts(engine).has_engine());
        assert!(!facts(&format!("{engine}unfinished packages")).has_engine());
    }

    #[test]
    fn what_forbids_it_is_said() {
        let problem = |more: &str| facts(more).problems(OWNER).join("\n");
        assert!(problem("swarm active").contains("another swarm (active)"));
        assert_eq!(problem("swarm inactive"), "");
        assert_eq!(problem(&format!("owner {OWNER}\nswarm active")), "");
        assert!(problem("owner other 99").contains("another cluster, other;"));
        assert!(problem("engine Docker version 20.10.24, build x").contains("Docker 20;"));
        assert!(problem("listener nginx").contains("taken there, by nginx"));
        assert_eq!(problem("listener dockerd"), "");
        assert!(problem("free 1000").contains("2 GiB"));
        assert!(problem("user 1000").contains("sudo"));
        let bare = Facts::parse("os Alpine Linux v3.20\nuser 0");
        assert_eq!(bare.problems(OWNER).len(), 2, "{:?}", bare.problems(OWNER));
    }

    #[test]
    fn a_firewall_counts_that_keeps_anybody_out() {
        assert_eq!(facts("firewall ufw closed").closed_firewall(), Some(Backend::Ufw));
        assert_eq!(facts("firewall iptables open").closed_firewall(), None);
        assert_eq!(facts("").closed_firewall(), None);
    }

    #[test]
    fn a_host_cannot_write_to_our_terminal() {
        assert_eq!(Facts::parse("os \u{1b}[31mred").system(), "[31mred");
    }
}
