//! Steps of machines that are in no cluster: what is written down of them in docker-machine's form says
//! which certificates they have, and how their engines are set up.

use std::time::Duration;

use serde_json::{Map, Value};
use skep_core::model::NodeName;
use skep_store::dm::{Config, MachineStore};
use skep_store::pki::{self, machine as certificates};

use super::options::EngineSetup;
use super::{Error, StepContext};

/// The engine's own file of options.
const DAEMON_FILE: &str = "/etc/docker/daemon.json";

/// What the engine's service reads before it starts the engine.
const SETUP_FILE: &str = "/etc/skep/engine.conf";

/// Puts the standard input into the file $1, $2 into the engine's own and $3 into the one that docker-machine's
/// users know, and restarts the engine if that changes anything and the engine would start. What users changed in that last
/// file stays until something else is asked for. Engines before 23.0 cannot tell whether they would start.
const APPLY: &str = r#"
    file=$1 daemon=$2 profile=/var/lib/boot2docker/profile
    cat >"$file.new"
    printf '%s' "$3" >"$file.profile.new"
    [ -e "$file" ] || : >"$file"
    [ -e "$file.profile" ] || : >"$file.profile"
    if [ ! -e "$file.begun" ] && cmp -s "$file.new" "$file" && cmp -s "$file.profile.new" "$file.profile"; then
        rm "$file.new" "$file.profile.new"
        exit 0
    fi
    printf '%s\n' "$daemon" >"$file.json"
    set --
    EXTRA_ARGS=
    . "$file.new"
    . "$file.profile.new"
    # The engine names the first option that it does not know: one of the user's, before ours.
    said=$(dockerd "$@" $EXTRA_ARGS --validate --config-file "$file.json" 2>&1) || case $said in
    *"unknown flag: --validate"*) ;;
    *) rm "$file.new" "$file.profile.new" "$file.json"; echo "$said" >&2; exit 1 ;;
    esac
    : >"$file.begun"
    [ ! -s $profile ] || cp $profile $profile.old
    if [ -s "$file.profile.new" ]; then cp "$file.profile.new" $profile
    elif [ -e /usr/lib/skep/profile ]; then cp /usr/lib/skep/profile $profile
    fi
    mv "$file.profile.new" "$file.profile"
    mv "$file.json" /etc/docker/daemon.json
    mv "$file.new" "$file"
    SVDIR=/etc/skep/sv sv -w 60 restart docker
    rm "$file.begun"
"#;

/// Upgrades the engine's packages; fails without a change if they cannot be fetched.
const UPGRADE: &str = include_str!("upgrade.sh");

/// How long the network may take each time, of two, that an upgrade needs it.
const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// How long the installation of packages may take, and how long to start the services anew.
const INSTALL_LIMIT: Duration = Duration::from_secs(90);
const RESTART_LIMIT: Duration = Duration::from_secs(150);

impl StepContext<'_> {
    pub(super) async fn ensure_machine_keys(&self, node: &NodeName) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let config = self.config(node)?;
        let auth = &config.host_options.auth_options;
        let (user, address) = (&self.settings.user, machine.record.address.to_string());
        certificates::bootstrap(auth, user, &mut |_| ()).await?;
        let master = is_swarm_master(&config);
        certificates::ensure_server(auth, user, node.as_str(), &address, master).await?;
        Ok(pki::ensure_machine_ssh_key(&machine.dir, machine.record.address).await?)
    }

    pub(super) async fn renew_machine_keys(&self, node: &NodeName) -> Result<(), Error> {
        let config = self.config(node)?;
        let auth = &config.host_options.auth_options;
        let (user, address) = (&self.settings.user, self.record(node)?.address.to_string());
        let master = is_swarm_master(&config);
        Ok(certificates::make_server(auth, user, node.as_str(), &address, master).await?)
    }

    /// Gives the engine the options that are written down; one that has them already goes on. Options that it does
    /// not know are left out and told: scripts give what engines knew years ago.
    pub(super) async fn configure_engine(
        &self,
        index: usize,
        node: &NodeName,
    ) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let config = self.config(node)?;
        let mut setup = EngineSetup::of(&config);
        let shell = self.driver.shell(&machine);
        let limit = self.limit(Some(node), Duration::from_secs(20));
        let read = ["/bin/cat", DAEMON_FILE];
        let text = shell.succeed("the look at the engine's options", &read, b"", limit).await?;
        let own: Map<String, Value> = serde_json::from_slice(&text.stdout)
            .map_err(|source| Error::Guest { file: DAEMON_FILE, source })?;
        loop {
            let mut daemon = own.clone();
            daemon.retain(|key, _| !setup.overrides(key));
            let daemon = serde_json::to_string_pretty(&daemon).expect("a map has only text keys");
            let profile = setup.render_profile();
            let argv = ["/bin/sh", "-ec", APPLY, "sh", SETUP_FILE, &daemon, &profile];
            let what = "the set-up of the engine's options";
            let done = shell.succeed(what, &argv, setup.render().as_bytes(), limit).await;
            let Err(error) = done else { return Ok(()) };
            // Each turn leaves one out, so this ends.
            let Some(unknown) = setup.without_unknown(&skep_sys::chain(&error)) else {
                return Err(error.into());
            };
            self.progress(
                index,
                format!("--engine-opt {unknown}: left out, as this engine does not know it"),
            );
        }
    }

    /// Brings the engine's packages up to date, and tells which have changed.
    pub(super) async fn upgrade_engine(&self, index: usize, node: &NodeName) -> Result<(), Error> {
        let machine = self.machine(node)?;
        let install = self.limit(Some(node), INSTALL_LIMIT);
        let limit = 2 * FETCH_LIMIT + install + RESTART_LIMIT;
        let [fetch, install] = [FETCH_LIMIT, install].map(|limit| limit.as_secs().to_string());
        let argv = ["/bin/sh", "-c", UPGRADE, "sh", &fetch, &install];
        let shell = self.driver.shell(&machine);
        let done = shell.succeed("the engine's upgrade", &argv, b"", limit).await?;
        for line in String::from_utf8_lossy(&done.stdout).lines() {
            self.progress(index, line);
        }
        Ok(())
    }

    /// Returns the interface that has a machine's address where scripts written for its driver of docker-machine look
    /// for it: eth0 is for the way to the outside there. None if it is the usual one.
    pub(super) fn usual_link(&self, node: &NodeName) -> Option<&'static str> {
        let driver = self.config(node).ok()?.driver_name;
        matches!(driver.as_str(), "virtualbox" | "kvm" | "kvm2").then_some("eth1")
    }

    fn config(&self, node: &NodeName) -> Result<Config, Error> {
        let store = MachineStore::new(self.cluster.dir().path());
        Ok(store.load(node.as_str()).map_err(skep_store::Error::from)?)
    }
}

/// Tells whether a machine was to be the master of an old swarm, whose certificate is a client's too.
fn is_swarm_master(config: &Config) -> bool {
    config.host_options.swarm_options.master
}
