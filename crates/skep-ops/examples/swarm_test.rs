//! An integration test on a real swarm: two nodes, a stack, a node that stops, and nothing left in the end.
//!
//! `cargo run -p skep-ops --example swarm_test -- compose.yaml`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skep_core::event::Event;
use skep_core::model::ClusterSpec;
use skep_core::plan::{Birth, UpOptions, Verify};
use skep_ops::{Cluster, Config, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let compose_file = PathBuf::from(std::env::args().nth(1).ok_or("which compose file?")?);
    let session = Session::new(config()?);
    let events = Arc::new(|event: Event| {
        if let Event::Warning(text) = event {
            eprintln!("warning: {text}");
        }
    });

    // Create a swarm: node0 is its manager, node1 a worker.
    let spec = ClusterSpec::of_machines("example".parse()?, 1, 1);
    let birth = Birth::Fork { restart_engine: false };
    let options = UpOptions { birth, wait: true, verify: Verify::Nothing };
    let created = Cluster::create(&session, &spec, options, events).await;
    // From here on the cluster is removed when the guard is dropped, whatever fails.
    let cluster = created.map_err(|failed| failed.error)?;

    // Deploy a stack and wait until its services have converged.
    cluster.deploy_stack("web", &compose_file, Duration::from_secs(300)).await?;
    let services = ["service", "ls", "--format", "{{.Name}} {{.Replicas}}"];
    let before = cluster.docker(&services, Duration::from_secs(60)).await?;
    println!("{}", before.trim());

    // Stop the worker, and see what the swarm makes of it.
    let worker = "node1".parse()?;
    cluster.stop_node(&worker).await?;
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"];
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while !cluster.docker(&nodes, Duration::from_secs(60)).await?.contains("node1 Down") {
        assert!(tokio::time::Instant::now() < deadline, "node1 is still Ready");
        // wait: a manager takes some heartbeats to notice.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("node1 Down");

    // And back again.
    cluster.start_node(&worker).await?;
    println!("node1 is back");
    cluster.remove().await?;
    Ok(())
}

/// Says where things are. A test has a store of its own, and shares the cache, in which images are.
fn config() -> Result<Config, Box<dyn std::error::Error>> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = variable("HOME").ok_or("HOME is not set")?;
    let cache = variable("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
    let path = variable("PATH").unwrap_or_default();
    let found = |program: &str| {
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
    };
    Ok(Config {
        store: variable("SKEP_HOME").unwrap_or_else(|| home.join(".local/share/skep-tests")),
        cache: cache.join("skep"),
        hosts_file: "/etc/hosts".into(),
        docker: found("docker"),
        docker_config: None,
        program: found("skep").unwrap_or_else(|| "skep".into()),
        user: "tests".to_owned(),
        no_proxy: None,
        test_profile: None,
        log_to: |_: &Path| (),
    })
}
