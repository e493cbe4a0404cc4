//! Which rights each command needs of whoever types it.

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Nothing but the user's own files, and a way to the nodes.
    Own,
    /// Networks of clusters, which are made, looked at or removed: membership in the group `skep`, or root.
    Networks,
    /// The host's file of names, too.
    Names,
    /// The host's own firewall, or its users.
    Host,
}

impl Rights {
    /// All of them, fewest first.
    pub const ALL: [Self; 4] = [Self::Own, Self::Networks, Self::Names, Self::Host];

    /// Returns what a user has to be, or to have.
    #[must_use]
    pub const fn described(self) -> &'static str {
        match self {
            Self::Own => "none",
            Self::Networks => "group `skep`",
            Self::Names => "group `skep`, after `sudo skep setup --hosts`",
            Self::Host => "root",
        }
    }
}

/// What commands need, by their words. What stands for a group of commands stands for all of them.
const NEEDED: &[(&str, Rights)] = &[
    ("ls", Rights::Own),
    ("ssh", Rights::Own),
    ("scp", Rights::Own),
    ("env", Rights::Own),
    ("docker", Rights::Own),
    ("stack", Rights::Own),
    ("rebalance", Rights::Own),
    ("hosts ls", Rights::Own),
    ("firewall check", Rights::Own),
    ("logs", Rights::Own),
    ("events", Rights::Own),
    ("doctor", Rights::Own),
    ("certs show", Rights::Own),
    ("cache", Rights::Own),
    ("init", Rights::Own),
    ("config", Rights::Own),
    ("schema", Rights::Own),
    ("version", Rights::Own),
    ("man", Rights::Own),
    ("completions", Rights::Own),
    ("install-alias", Rights::Own),
    ("up", Rights::Networks),
    ("down", Rights::Networks),
    ("status", Rights::Networks),
    ("start", Rights::Networks),
    ("stop", Rights::Networks),
    ("node", Rights::Networks),
    ("image", Rights::Networks),
    ("registry", Rights::Networks),
    ("swarm", Rights::Networks),
    ("certs renew", Rights::Networks),
    ("certs rotate", Rights::Networks),
    ("support-bundle", Rights::Networks),
    ("bench", Rights::Networks),
    ("hosts add", Rights::Names),
    ("hosts rm", Rights::Names),
    ("hosts follow", Rights::Names),
    ("firewall show", Rights::Host),
    ("firewall apply", Rights::Host),
    ("firewall remove", Rights::Host),
    ("setup", Rights::Host),
];

/// Returns what a command needs, by its words without `skep`; none if nobody has said.
#[must_use]
pub fn needed(command: &str) -> Option<Rights> {
    let group = command.split(' ').next().unwrap_or_default();
    let find = |words: &str| NEEDED.iter().find(|(it, _)| *it == words).map(|(_, rights)| *rights);
    find(command).or_else(|| find(group))
}

/// Returns all of it, as the README has it.
#[must_use]
pub fn table() -> String {
    let row = |rights: Rights| {
        let of = NEEDED.iter().filter(|(_, it)| *it == rights);
        let commands: Vec<_> = of.map(|(command, _)| format!("`{command}`")).collect();
        format!("| {} | {} |\n", rights.described(), commands.join(", "))
    };
    let rows: String = Rights::ALL.into_iter().map(row).collect();
    format!("| rights | commands |\n| --- | --- |\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn leaves(command: &clap::Command, words: &[&str], found: &mut Vec<String>) {
        let inner: Vec<_> =
            command.get_subcommands().filter(|it| it.get_name() != "help").collect();
        if inner.is_empty() {
            found.push(words.join(" "));
        }
        for it in inner {
            leaves(it, &[words, &[it.get_name()]].concat(), found);
        }
    }

    #[test]
    fn each_command_says_what_it_needs() {
        let mut found = Vec::new();
        leaves(&crate::cli::Cli::command(), &[], &mut found);
        for command in &found {
            assert!(needed(command).is_some(), "skep {command} is not in the table");
        }
        for (words, _) in NEEDED {
            let is_there = |it: &String| it == words || it.starts_with(&format!("{words} "));
            assert!(found.iter().any(is_there), "there is no command {words}");
        }
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&table()), "README.md lacks this table:\n{}", table());
    }
}
