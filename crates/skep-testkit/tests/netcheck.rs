//! Where packets between nodes get lost, in namespaces and with real packets: who drops which, by what
//! rule, or whether it is what is between them; and nothing of the looking is left.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use skep_net::netcheck::{Peer, Report, Verdict, check};
use skep_sys::Cmd;
use skep_sys::shell::{Error, NodeOutput, NodeShell};
use skep_testkit::host::{can_run_machines, in_namespaces, run};

const PART: &str = "SKEP_TEST_PART";
const NAME: &str = "a_packet_is_where_it_was_seen_last";

/// A namespace that is a node; without nftables, if it has none.
struct Namespace {
    name: &'static str,
    nft: bool,
}

#[async_trait]
impl NodeShell for Namespace {
    async fn run(&self, argv: &[&str], stdin: &[u8], limit: Duration) -> Result<NodeOutput, Error> {
        let hide = if self.nft { "" } else { "mount --bind /dev/null $(command -v nft) &&" };
        let own = format!("mount --bind /run/{} /run && {hide} exec \"$@\"", self.name);
        let enter = ["netns", "exec", self.name, "unshare", "--mount", "sh", "-c", &own, "sh"];
        let cmd = Cmd::new("ip").args(enter).args(argv).stdin(stdin).timeout(limit);
        match cmd.run().await {
            Ok(output) => Ok(NodeOutput { code: 0, stdout: output.stdout, stderr: output.stderr }),
            Err(error) => {
                Ok(NodeOutput { code: 1, stdout: Vec::new(), stderr: error.to_string().into() })
            }
        }
    }

    async fn clock_behind(&self, _: Duration) -> Result<i64, Error> {
        Ok(0)
    }
}

#[test]
fn a_packet_is_where_it_was_seen_last() {
    if std::env::var_os(PART).is_some() {
        return nodes();
    }
    if !can_run_machines() {
        return;
    }
    let mut inside = in_namespaces(NAME, (PART, "nodes"));
    assert!(inside.status().unwrap().success());
}

fn nodes() {
    run("mount -t tmpfs none /run");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        std::fs::create_dir_all(Path::new("/run").join(name)).unwrap();
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add to{number} type veth peer name eth0 netns {name}"));
        run(&format!("ip address add 10.78.{number}.1/24 dev to{number}"));
        run(&format!("ip link set to{number} up"));
        run(&format!("ip -n {name} address add 10.78.{number}.2/24 dev eth0"));
        run(&format!("ip -n {name} link set lo up"));
        run(&format!("ip -n {name} link set eth0 up"));
        run(&format!("ip -n {name} route add default via 10.78.{number}.1"));
    }
    let all = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = all.block_on(look());
    assert!(report.is_open(), "without a firewall: {report:?}");
    assert_eq!(report.paths.len(), 6 * 7);

    nft(
        "netns exec a",
        "table inet own {\nchain output {\ntype filter hook output priority 0\nudp dport 4789 drop\n}\n}\n",
    );
    nft(
        "netns exec b",
        "table inet filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n\
         ct state established accept\ntcp dport 22 drop\ntcp dport 2376 accept\nudp dport 7946 accept\n}\n}\n",
    );
    nft(
        "",
        "table ip between {\nchain forward {\ntype filter hook forward priority 0\nip saddr 10.78.0.2 tcp dport 7946 drop\n}\n}\n",
    );
    run("ip netns exec c iptables -A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset");
    let before = rules();
    let report = all.block_on(look());
    let verdict = |from: &str, to: &str, what: &str| {
        let is_it = |path: &&skep_net::netcheck::Path| {
            path.from == from && path.to == to && path.what == what
        };
        report.paths.iter().find(is_it).unwrap().verdict.clone()
    };
    let dropped =
        |at: &str, rule: &str| Verdict::Dropped { at: at.into(), rule: Some(rule.into()) };
    assert_eq!(verdict("a", "b", "tcp 22"), dropped("b", "inet filter input: tcp dport 22 drop"));
    assert_eq!(verdict("a", "b", "tcp 2377"), dropped("b", "inet filter input: policy drop"));
    assert_eq!(verdict("a", "b", "tcp 2376"), Verdict::Open);
    assert_eq!(verdict("a", "b", "udp 7946"), Verdict::Open);
    assert_eq!(verdict("a", "b", "udp 4789"), dropped("a", "inet own output: udp dport 4789 drop"));
    assert_eq!(verdict("a", "b", "tcp 7946"), Verdict::Lost);
    assert_eq!(verdict("b", "a", "tcp 7946"), Verdict::Open);
    let Verdict::Dropped { at, rule: Some(rule) } = verdict("b", "c", "tcp 22") else {
        panic!("{report:?}")
    };
    assert!(at == "c" && rule.contains("--dport 22 -j REJECT"), "{rule}");
    assert_eq!(verdict("b", "c", "tcp 2377"), Verdict::Open);
    assert!(!report.is_open());

    assert_eq!(rules(), before);
    for name in ["a", "b", "c"] {
        assert!(!Path::new("/run").join(name).join("skep-probe").exists());
    }
    let left = Command::new("ps").args(["-e", "-o", "args"]).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    // Who ends here is nobody's child, and stays listed.
    let left: Vec<_> = left.lines().filter(|line| !line.contains("<defunct>")).collect();
    let is_ours = |line: &&&str| line.contains("monitor trace") || line.contains("sleep");
    assert!(!left.iter().any(|line| is_ours(&line)), "{left:?}");
}

async fn look() -> Report {
    let shells =
        [("a", true), ("b", true), ("c", false)].map(|(name, nft)| Namespace { name, nft });
    let peer = |(number, shell): (u8, &'static Namespace)| Peer {
        name: shell.name,
        address: [10, 78, number, 2].into(),
        shell,
        limit: Duration::from_secs(30),
    };
    let shells: &'static [Namespace; 3] = Box::leak(Box::new(shells));
    check(&[0u8, 1, 2].map(|number| peer((number, &shells[usize::from(number)])))).await
}

/// Returns the rules of all nodes; what iptables-save leaves of a table is an empty one.
fn rules() -> Vec<String> {
    let list = |name: &str| {
        let output = Command::new("ip")
            .args(["netns", "exec", name, "nft", "-s", "list", "ruleset"])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    ["a", "b"].map(list).into_iter().chain([saved("c")]).collect()
}

fn saved(name: &str) -> String {
    let output =
        Command::new("ip").args(["netns", "exec", name, "iptables-save"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let tells = |line: &&str| line.starts_with("-A") || line.starts_with(":SKEP");
    text.lines().filter(tells).collect::<Vec<_>>().join("\n")
}

fn nft(prefix: &str, rules: &str) {
    std::fs::write("/run/rules.nft", rules).unwrap();
    match prefix {
        "" => run("nft -f /run/rules.nft"),
        prefix => run(&format!("ip {prefix} nft -f /run/rules.nft")),
    }
}
