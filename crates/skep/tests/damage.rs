//! Every file of a store and a cache is damaged in every way: no command panics or hangs, what is said
//! names the damage or the way out, and `down` takes the cluster away. No machine is started here.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use skep_core::model::ClusterSpec;
use skep_core::plan::{Birth, UpOptions, Verify, plan_up};
use skep_ops::converge::OnFailure;
use skep_testkit::damage::Damage;
use skep_testkit::fakes::FakeHost;
use skep_testkit::home::{Home, Said, finish};
use skep_testkit::host::{is_root, skip};

const SKEP: &str = env!("CARGO_BIN_EXE_skep");

/// What is asked of a cluster that has a damaged file: what lists, what looks, and what plans.
const QUESTIONS: [&str; 3] = ["ls", "status demo", "up demo --dry-run"];

#[test]
fn a_damaged_record_is_named_and_can_be_taken_away() {
    take_away_with("cluster.json", &Damage::ALL);
}

#[test]
fn a_nodes_damaged_record_is_named_and_can_be_taken_away() {
    take_away_with("machines/node1/config.json", &Damage::ALL);
}

#[test]
fn other_damaged_files_are_named_and_can_be_taken_away() {
    // Keys, certificates and disks are the same to these commands whatever is in them.
    let others = [Damage::Link, Damage::Gone];
    for file in files_below(cluster()) {
        let of_node1 = file.starts_with("machines/node1");
        if file.extension().is_none_or(|it| it != "json") && !of_node1 {
            take_away_with(file.to_str().unwrap(), &others);
        }
    }
}

/// Damages a file of a whole store in each of these ways, looks, and takes the cluster away.
fn take_away_with(file: &str, ways: &[Damage]) {
    let (whole, file) = (cluster(), Path::new(file));
    let mut wrong = String::new();
    for damage in ways {
        let home = Home::new(SKEP);
        copy(whole, &home.cluster("demo"));
        if !damage.apply(&home.cluster("demo").join(file)) {
            continue;
        }
        // One bit may be in a text, where another one is as good.
        let is_lost =
            file.extension().is_some_and(|it| it == "json") && *damage != Damage::MiddleBit;
        let mut check = |said: Said, may_fail: bool, line: &str| {
            let hidden = is_lost && may_fail && !is_named(&said, file) && !is_told(&said);
            let hidden = hidden.then(|| format!("nothing: {}{}", said.stdout, said.stderr));
            if let Some(reason) = complaint(&said, may_fail, file).or(hidden) {
                writeln!(wrong, "{damage:?} {}: skep {line}: {reason}", file.display()).unwrap();
            }
        };
        for line in QUESTIONS {
            check(home.try_run(line), true, line);
        }
        if is_root() {
            check(home.try_run("down demo -y"), false, "down demo -y");
            if home.cluster("demo").exists() {
                writeln!(wrong, "{damage:?} {}: it is still there", file.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The user that somebody else is: nobody on this host.
const STRANGER: u32 = 54321;

#[test]
fn a_store_of_somebody_else_is_refused_and_nothing_of_it_is_believed() {
    if !is_root() {
        return skip("only root can give files to somebody else");
    }
    // In the place of the machine that the store says is this process.
    let mut bystander = std::process::Command::new("sleep").arg("120").spawn().unwrap();
    let id = skep_sys::ProcessId::of(bystander.id()).unwrap();
    let note = format!(r#"{{"pid": {}, "start": {}, "accelerator": "tcg"}}"#, id.pid, id.start);
    let whole: Vec<_> = ["", "clusters", "clusters/demo", "clusters/demo/machines/node0"].into();
    for part in whole.into_iter().chain([
        "clusters/demo/cluster.json",
        "clusters/demo/machines",
        "clusters/demo/machines/node0/config.json",
        "clusters/demo/certs",
    ]) {
        let home = Home::new(SKEP);
        copy(cluster(), &home.cluster("demo"));
        let machine = home.cluster("demo").join("machines/node0");
        fs::write(machine.join("process.json"), &note).unwrap();
        let foreign = home.path().join(part);
        std::os::unix::fs::chown(&foreign, Some(STRANGER), Some(STRANGER)).unwrap();
        for line in [
            "node kill node0",
            "ssh node0 true",
            "status demo",
            "up demo --dry-run",
            "down demo -y",
        ] {
            let said = home.try_run(line);
            let wants =
                [part.rsplit('/').next().unwrap(), "user 54321", "run skep as", "with sudo -u"];
            let told = wants.iter().all(|want| said.stderr.contains(want));
            assert!(said.code == 1 && told, "{part}: skep {line}: {}{}", said.stdout, said.stderr);
        }
        assert!(machine.join("disk.qcow2").exists() || machine.exists(), "{part} was touched");
        assert!(bystander.try_wait().unwrap().is_none(), "{part}: it was killed");
        std::os::unix::fs::chown(&foreign, Some(0), Some(0)).unwrap();
    }
    // And where the store is root's: what is no machine is not killed, whatever the note says.
    let home = Home::new(SKEP);
    copy(cluster(), &home.cluster("demo"));
    fs::write(home.cluster("demo").join("machines/node0/process.json"), &note).unwrap();
    home.run("down demo -y");
    assert!(bystander.try_wait().unwrap().is_none(), "it was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_link_in_the_place_of_any_directory_of_a_store_is_refused() {
    for part in [
        "clusters",
        "clusters/demo",
        "clusters/demo/certs",
        "clusters/demo/machines",
        "clusters/demo/machines/node0",
    ] {
        let home = Home::new(SKEP);
        copy(cluster(), &home.cluster("demo"));
        let (place, elsewhere) = (home.path().join(part), home.path().join("elsewhere"));
        fs::rename(&place, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
        // A node that cannot be read is listed by `status`, as with any other damage.
        let lines = ["up demo --dry-run", "status demo"];
        for line in &lines[..if part.ends_with("node0") { 1 } else { 2 }] {
            let said = home.try_run(line);
            let told = said.stderr.contains("it is a symbolic link")
                && said.stderr.contains(part.rsplit('/').next().unwrap())
                && said.stderr.contains("try: ");
            assert!(said.code != 0 && told, "{part}: skep {line}: {}{}", said.stdout, said.stderr);
        }
        assert!(files_below(&elsewhere).len() > 1, "what it leads to is untouched");
        fs::remove_file(&place).unwrap();
        fs::rename(&elsewhere, &place).unwrap();
    }
    // The store as a whole may lie elsewhere.
    let home = Home::new(SKEP);
    copy(cluster(), &home.cluster("demo"));
    let link = home.path().join("link");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    let said = finish(home.command(["ls"]).env("SKEP_HOME", &link));
    assert!(said.code == 0 && said.stdout.contains("demo"), "{}{}", said.stdout, said.stderr);
}

#[test]
fn a_record_that_would_be_an_option_of_a_program_is_refused() {
    let bad = [
        ("cluster.json", r#""suite": "trixie""#, r#""suite": "--setup-hook=touch /tmp/x""#),
        (
            "machines/node1/config.json",
            r#""Index""#,
            r#""Host": {"address": "10.1.2.3", "user": "-oProxyCommand=touch x", "port": 22}, "Index""#,
        ),
        (
            "cluster.json",
            r#""labels": {"#,
            r#""host": {"address": "10.1.2.3", "user": "-oProxyCommand=touch x", "port": 22}, "labels": {"#,
        ),
    ];
    for (file, from, to) in bad {
        let home = Home::new(SKEP);
        copy(cluster(), &home.cluster("demo"));
        let path = home.cluster("demo").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}: {text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let said = home.try_run("up demo --dry-run");
        let told = said.stderr.contains(file) && said.stderr.contains("is damaged");
        assert!(said.code == 1 && told, "{file}: {}{}", said.stdout, said.stderr);
    }
}

#[test]
fn a_record_of_a_newer_skep_is_refused_and_an_older_one_is_read() {
    let home = Home::new(SKEP);
    copy(cluster(), &home.cluster("demo"));
    let path = home.cluster("demo").join("cluster.json");
    let text = fs::read_to_string(&path).unwrap();
    let format = "\"format\": 3";
    assert!(text.contains(format), "{text}");
    for (record, told) in [
        (
            text.replacen(format, "\"format\": 4", 1),
            "has format 4; this skep reads formats up to 3",
        ),
        (text.replacen(format, "\"format\": 3, \"later\": 1", 1), "has the key `later`"),
    ] {
        fs::write(&path, &record).unwrap();
        for line in ["status demo", "up demo --dry-run", "status demo -o json"] {
            let said = home.try_run(line);
            let hint = said.stderr.contains("try: the skep that wrote it, or a newer one");
            let refused = said.stderr.contains(told) && hint && said.code == 1;
            assert!(refused, "skep {line}: {}{}", said.stdout, said.stderr);
            // It is whole: nothing that is said removes it.
            assert!(!said.stderr.contains("skep down"), "skep {line}: {}", said.stderr);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), record, "it is left as it is");
    }
    fs::write(&path, text.replacen(format, "\"format\": 1", 1)).unwrap();
    assert!(home.run("up demo --dry-run").contains("node1"));
}

#[test]
fn a_damaged_cluster_is_not_removed_as_the_first_remedy() {
    for file in ["cluster.json", "machines/node1/config.json"] {
        let home = Home::new(SKEP);
        copy(cluster(), &home.cluster("demo"));
        fs::write(home.cluster("demo").join(file), "{").unwrap();
        for line in ["status demo", "up demo --dry-run", "node add --dry-run"] {
            let said = home.try_run(line);
            let text = format!("{}{}", said.stdout, said.stderr);
            assert!(said.code == 1 && text.contains(file), "skep {line}: {text}");
            let find = |words: &str| {
                text.find(words).unwrap_or_else(|| panic!("skep {line}: no {words}: {text}"))
            };
            assert!(
                find("skep support-bundle demo") < find("skep down demo"),
                "skep {line}: {text}"
            );
            assert!(text.contains("all its data"), "skep {line}: {text}");
        }
    }
}

/// In namespaces, where a small file system is mounted, and with a store on it that is written to with more and more
/// room: what is there afterwards is what was there or what was written, whole.
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    const INSIDE: &str = "SKEP_TEST_FULL";
    if !is_root() {
        return skip("only root can mount a file system");
    }
    let Some(place) = std::env::var_os(INSIDE) else {
        let place = tempfile::tempdir().unwrap();
        let test = "a_full_disk_is_named_and_loses_nothing";
        let place = place.path().to_str().unwrap();
        let mut inside = skep_testkit::host::in_namespaces(test, (INSIDE, place));
        assert!(inside.status().unwrap().success(), "it fails on a full disk");
        return;
    };
    let place = PathBuf::from(place);
    let mount = |words: &[&str]| {
        let mounted = std::process::Command::new("mount").args(words).arg(&place).status();
        assert!(mounted.unwrap().success());
    };
    mount(&["-t", "tmpfs", "-o", "size=2M,mode=700", "none"]);
    copy(cluster(), &place.join("clusters/demo"));
    // As where a container has it: nothing can take its place.
    let hosts = place.join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let bind = std::process::Command::new("mount").arg("--bind").args([&hosts, &hosts]).status();
    assert!(bind.unwrap().success());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = skep_store::Store::new(place.clone());
    let name = "demo".parse().unwrap();
    let locked = runtime.block_on(store.lock(&name, |_| ())).unwrap();
    let owner = skep_store::Owner::of(locked.dir());
    let mut failed = 0;
    for pages in 0..24 {
        let before = locked.dir().record().unwrap().unwrap();
        let node = locked.dir().nodes().unwrap()[0].1.as_ref().unwrap().clone();
        let names = (0..400).map(|index| format!("host{index}-{pages}.example"));
        let entries: Vec<_> = names
            .map(|name| skep_core::observed::HostsEntry { name, address: node.address })
            .collect();
        let (mut wanted, mut relabelled) = (before.clone(), node.clone());
        wanted.hostnames = entries
            .iter()
            .map(|entry| skep_core::model::HostnameSpec {
                name: entry.name.parse().unwrap(),
                node: None,
                follow: false,
            })
            .collect();
        let label = "x".repeat(9000) + &pages.to_string();
        relabelled.spec.labels = [("label".to_owned(), label)].into();
        let text = fs::read_to_string(&hosts).unwrap();
        fill(&place, pages);

        let is_named = |error: &dyn std::error::Error| {
            let text = skep_sys::chain(error);
            assert!(
                text.contains(&format!(
                    "no room is left in the file system at {}",
                    place.display()
                )),
                "{text}"
            );
        };
        let written = locked.write_cluster(&wanted);
        let found = locked.dir().record().unwrap().unwrap();
        assert_eq!(found, if written.is_ok() { wanted } else { before });
        let noted = locked.write_node("skep-demo", &relabelled);
        let found = locked.dir().nodes().unwrap()[0].1.as_ref().unwrap().clone();
        assert_eq!(found, if noted.is_ok() { relabelled } else { node });
        let named = skep_net::hosts::write_block(&hosts, &owner, &entries);
        let found = fs::read_to_string(&hosts).unwrap();
        match &named {
            Ok(()) => assert!(found.contains(&format!("host399-{pages}.example"))),
            Err(_) => assert_eq!(found, text),
        }
        written.as_ref().err().into_iter().for_each(|error| is_named(error));
        noted.as_ref().err().into_iter().for_each(|error| is_named(error));
        named.as_ref().err().into_iter().for_each(|error| is_named(error));
        failed += usize::from(written.is_err())
            + usize::from(noted.is_err())
            + usize::from(named.is_err());
        let left =
            files_below(&place).into_iter().filter(|it| it.to_string_lossy().contains(".skep-"));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "nothing is left half written");
        fs::remove_file(place.join("ballast")).unwrap();
    }
    assert!((6..72).contains(&failed), "{failed} of 72 writes failed");
    locked.release();
    // What is full can be taken away.
    fill(&place, 0);
    let down = std::process::Command::new(SKEP)
        .args(["down", "demo", "-y"])
        .env("SKEP_HOME", &place)
        .output();
    let down = down.unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(!place.join("clusters/demo").exists());
}

/// Fills a file system but for some pages.
fn fill(place: &Path, pages: u64) {
    use std::io::Write;
    let mut ballast = fs::File::create(place.join("ballast")).unwrap();
    while ballast.write_all(&[7; 4096]).is_ok() {}
    let length = ballast.metadata().unwrap().len();
    ballast.set_len(length.saturating_sub(pages * 4096)).unwrap();
}

#[test]
fn a_damaged_cache_is_listed_and_pruned() {
    let mut wrong = String::new();
    for file in
        ["images/0123456789abcdef/manifest.json", "templates/0123456789abcdef/template.json"]
    {
        for damage in Damage::ALL {
            let home = Home::new(SKEP);
            let cache = home.path().join("cache/skep");
            let path = cache.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, MANIFEST).unwrap();
            fs::write(path.with_file_name("disk"), [7; 512]).unwrap();
            let _ = damage.apply(&path);
            for (line, may_fail) in [("cache ls", false), ("cache prune", false)] {
                let mut command = home.command(line.split_whitespace());
                let said = finish(command.env("XDG_CACHE_HOME", home.path().join("cache")));
                if let Some(reason) = complaint(&said, may_fail, Path::new(file)) {
                    writeln!(wrong, "{damage:?} {file}: skep {line}: {reason}").unwrap();
                }
            }
            if path.parent().unwrap().exists() {
                writeln!(wrong, "{damage:?} {file}: it is still there").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What stands in the place of a manifest; damaged or not, it is none of this version.
const MANIFEST: &str = r#"{"format": 1, "spec": {"suite": "trixie"}, "files": [["disk", 512]]}"#;

/// Tells what is wrong with an answer to a question about a damaged cluster.
fn complaint(said: &Said, may_fail: bool, file: &Path) -> Option<String> {
    let text = format!("{}{}", said.stdout, said.stderr);
    if !(0..=4).contains(&said.code) || text.contains("panicked") {
        return Some(format!("it ended with {}: {text}", said.code));
    }
    if said.code != 0 && !may_fail {
        return Some(format!("it failed: {text}"));
    }
    // What is wrong with the command line is told without a look at the store.
    let failed = said.stderr.starts_with("error:");
    (failed && !(is_named(said, file) && said.stderr.contains("try: skep ")))
        .then(|| format!("unclear: {text}"))
}

/// Tells whether an answer has the name of a file, or of the node that it is of.
fn is_named(said: &Said, file: &Path) -> bool {
    let text = format!("{}{}", said.stdout, said.stderr);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let node = file.components().nth(1).map(|it| it.as_os_str().to_string_lossy());
    text.contains(&*name) || node.is_some_and(|node| text.contains(&*node))
}

/// Tells whether an answer says of a cluster that its own record is of no use.
fn is_told(said: &Said) -> bool {
    let words = ["a cluster (unreadable record): skep ", "creation was interrupted"];
    words.iter().any(|words| said.stdout.contains(words))
}

/// Returns the files of a cluster as `up` makes them, on a host in memory.
fn cluster() -> &'static Path {
    static WHOLE: OnceLock<tempfile::TempDir> = OnceLock::new();
    WHOLE.get_or_init(make_cluster).path()
}

fn make_cluster() -> tempfile::TempDir {
    let options = UpOptions {
        birth: Birth::Fork { restart_engine: true },
        wait: true,
        verify: Verify::Nothing,
    };
    let mut spec = ClusterSpec::of_machines("demo".parse().unwrap(), 1, 1);
    // Which no other cluster is given.
    spec.subnet = Some("172.31.253.0/24".parse().unwrap());
    for node in &mut spec.nodes {
        node.labels = [("place".to_owned(), "here".to_owned())].into();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let host = FakeHost::new();
        loop {
            let seen = host.observe("demo").await.unwrap();
            let plan = plan_up(&spec, &seen, options).unwrap();
            host.execute("demo", &plan, OnFailure::Stop, &|_| ()).await.unwrap();
            if !plan.look_again {
                break;
            }
        }
        copy(host.cluster("demo").path(), place.path());
    });
    place
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => dirs.push(path),
                path => found.push(path.strip_prefix(dir).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// Copies a tree, for its owner alone.
fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).unwrap();
    for file in files_below(from) {
        let target = to.join(&file);
        let dir = target.parent().unwrap();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
        fs::copy(from.join(file), target).unwrap();
    }
}
