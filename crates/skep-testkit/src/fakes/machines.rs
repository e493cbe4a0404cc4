//! Machines that are a directory and a word in memory.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use skep_core::model::{ImageSet, Shape};
use skep_core::observed::{Baked, MachineState};
use skep_docker::engine::{REGISTRY_STATE, inside::PROGRAM as ASK};
use skep_driver::image::Image;
use skep_driver::{Adopt, Boot, Driver, Error, Fork, Remark, Say};
use skep_ops::converge::PROGRAM;
use skep_ops::logs::READ_LOG_NAME;
use skep_store::Machine;
use skep_sys::shell::{self, NodeOutput, NodeShell};

use super::engines::form_swarm;
use super::{Copies, FakeHost, State, act, file_error};

/// Is there once the guest has its keys: from then on its engine can be asked.
pub(super) const PROVISIONED: &str = "provisioned";

/// Has what the engine of a docker-machine store's machine was last told of its options.
pub(super) const CONFIGURED: &str = "configured";

/// Has what the node was last told of a registry.
const REGISTRY: &str = "registry";

fn injected() -> Error {
    Error::File(file_error())
}

fn disk(machine: &Machine) -> PathBuf {
    machine.dir.join("disk.qcow2")
}

/// Returns on what the disk of the machine in this directory stands.
pub(super) fn base(dir: &Path) -> Option<PathBuf> {
    std::fs::read_to_string(dir.join("disk.qcow2")).ok().map(PathBuf::from)
}

/// Returns the disk of the template of a shape.
fn template(host: &FakeHost, shape: Shape) -> PathBuf {
    let name = format!("{}-{}-{}", shape.cpus, shape.memory, shape.disk);
    host.dir.path().join("templates").join(name).join("disk.qcow2")
}

#[async_trait]
impl Fork for FakeHost {
    async fn ensure_template(
        &self,
        _: &Image,
        shape: Shape,
        images: &[ImageSet],
        say: Say<'_>,
    ) -> Result<PathBuf, Error> {
        assert!(images.is_empty(), "nothing is baked here");
        say(Remark::Progress("warming nothing up"));
        let disk = template(self, shape);
        // What was made is there at once the next time.
        let at_once = match disk.exists() {
            true => None,
            false => self.state.lock().expect("no test panics here").templates_at_once.clone(),
        };
        if let Some(barrier) = at_once {
            let waited = tokio::time::timeout(Duration::from_secs(5), barrier.wait()).await;
            waited.map_err(|_| Error::Unfit("no other one is made meanwhile".to_owned()))?;
        }
        self.act(injected, |_| {
            std::fs::create_dir_all(disk.parent().expect("it has one")).expect("a directory");
            std::fs::write(&disk, "").expect("a file");
            Ok(disk)
        })
    }

    fn baked(&self) -> Vec<Baked> {
        Vec::new()
    }

    async fn fork(&self, machine: &Machine, boot: &Boot, say: Say<'_>) -> Result<(), Error> {
        if self.state.lock().expect("no test panics here").forks_fail {
            return Err(Error::Unfit("it is forbidden".to_owned()));
        }
        // A copy of another shape's memory would not run.
        let fitting = machine.record.spec.shape().map(|shape| template(self, shape));
        assert_eq!(base(&machine.dir), fitting);
        self.start(machine, boot, say).await?;
        self.state().forked.insert(machine.dir.clone());
        Ok(())
    }
}

#[async_trait]
impl Adopt for FakeHost {
    async fn adopt(&self, machine: &Machine, owner: &str, say: Say<'_>) -> Result<(), Error> {
        say(Remark::Progress("asking nothing"));
        self.act(injected, |state| {
            let other = state.adopted.insert(machine.record.address, owner.to_owned());
            assert!(other.is_none_or(|other| other == owner), "it was somebody else's");
            std::fs::write(machine.dir.join(PROVISIONED), "").expect("a file");
            state.running.insert(machine.dir.clone());
            Ok(())
        })
    }

    async fn open(
        &self,
        machine: &Machine,
        owner: &str,
        to: &[Ipv4Addr],
        _: Say<'_>,
    ) -> Result<(), Error> {
        self.act(injected, |state| {
            let address = machine.record.address;
            assert_eq!(state.adopted.get(&address).map(String::as_str), Some(owner));
            state.open.insert(address, to.to_vec());
            Ok(())
        })
    }

    async fn release(&self, machine: &Machine, owner: &str, _: bool) -> Result<Vec<String>, Error> {
        self.act(injected, |state| {
            let other = state.adopted.remove(&machine.record.address);
            state.open.remove(&machine.record.address);
            assert!(other.is_none_or(|other| other == owner), "it was somebody else's");
            let _ = std::fs::remove_file(machine.dir.join(PROVISIONED));
            state.running.remove(&machine.dir);
            Ok(Vec::new())
        })
    }
}

#[async_trait]
impl Driver for FakeHost {
    fn forks(&self) -> Option<&dyn Fork> {
        Some(self)
    }

    fn adopts(&self) -> Option<&dyn Adopt> {
        Some(self)
    }

    async fn create_disk(&self, machine: &Machine, root_disk: &Path) -> Result<(), Error> {
        self.act(injected, |_| {
            std::fs::write(disk(machine), root_disk.to_str().expect("UTF-8")).expect("a file");
            Ok(())
        })
    }

    fn has_disk(&self, machine: &Machine) -> bool {
        machine.record.spec.is_host() || disk(machine).exists()
    }

    fn base(&self, machine: &Machine) -> Option<PathBuf> {
        base(&machine.dir)
    }

    async fn start(&self, machine: &Machine, boot: &Boot, _say: Say<'_>) -> Result<(), Error> {
        self.act(injected, |state| {
            // What the real one needs is asked for, or a plan in a wrong order would pass.
            let bridge = state.bridges.contains_key(&boot.network.bridge);
            assert!(disk(machine).exists() && bridge, "started without a disk or a bridge");
            state.running.insert(machine.dir.clone());
            Ok(())
        })
    }

    async fn await_guest(&self, machine: &Machine, _: Option<Duration>) -> Result<(), Error> {
        self.act(injected, |state| {
            if state.copies == Copies::Hang && state.forked.contains(&machine.dir) {
                return Err(Error::NoGuest { limit_s: 20, console: String::new() });
            }
            state.running.contains(&machine.dir).then_some(()).ok_or(Error::NotRunning)
        })
    }

    fn check_alive(&self, machine: &Machine) -> Result<(), Error> {
        let state = self.state.lock().expect("no test panics while it holds this");
        state.running.contains(&machine.dir).then_some(()).ok_or(Error::Died(String::new()))
    }

    async fn pause(&self, machine: &Machine) -> Result<(), Error> {
        self.act(injected, |state| {
            if !state.running.remove(&machine.dir) {
                return Err(Error::NotRunning);
            }
            state.paused.insert(machine.dir.clone());
            Ok(())
        })
    }

    async fn resume(&self, machine: &Machine) -> Result<(), Error> {
        self.act(injected, |state| {
            if !state.paused.remove(&machine.dir) && !state.running.contains(&machine.dir) {
                return Err(Error::NotRunning);
            }
            state.running.insert(machine.dir.clone());
            Ok(())
        })
    }

    async fn stop(&self, machine: &Machine) -> Result<bool, Error> {
        self.kill(&machine.dir).await.map(|()| true)
    }

    async fn kill(&self, dir: &Path) -> Result<(), Error> {
        self.act(injected, |state| {
            state.running.remove(dir);
            state.paused.remove(dir);
            state.forked.remove(dir);
            Ok(())
        })
    }

    async fn state(&self, machine: &Machine) -> MachineState {
        if self.state().paused.contains(&machine.dir) {
            return MachineState::Paused;
        }
        match self.check_alive(machine) {
            Ok(()) => MachineState::Running,
            Err(_) => MachineState::Stopped,
        }
    }

    fn slowness(&self, _machine: &Machine) -> u32 {
        1
    }

    fn shell(&self, machine: &Machine) -> Box<dyn NodeShell> {
        Box::new(FakeShell { state: self.state.clone(), dir: machine.dir.clone() })
    }

    fn last_words(&self, _machine: &Machine) -> String {
        "the console's last words".to_owned()
    }
}

struct FakeShell {
    state: Arc<Mutex<State>>,
    dir: PathBuf,
}

#[async_trait]
impl NodeShell for FakeShell {
    async fn clock_behind(&self, _: Duration) -> Result<i64, shell::Error> {
        Ok(0)
    }

    async fn run(
        &self,
        argv: &[&str],
        stdin: &[u8],
        _: Duration,
    ) -> Result<NodeOutput, shell::Error> {
        let injected = || shell::Error::Refused {
            command: "guest-exec".to_owned(),
            reason: "injected".to_owned(),
        };
        act(&self.state, injected, |state| {
            assert!(state.running.contains(&self.dir), "a machine that is off was spoken to");
            match argv[0] {
                PROGRAM if state.copies == Copies::AreDeaf && state.forked.contains(&self.dir) => {
                    return Err(injected());
                }
                PROGRAM if state.unfit.contains(&self.dir) => return Err(injected()),
                PROGRAM => {
                    assert!(!stdin.is_empty(), "keys are delivered on the standard input");
                    std::fs::write(self.dir.join(PROVISIONED), "").expect("a file");
                }
                ASK => {
                    assert_eq!(argv[1..], ["POST", "/swarm/init"]);
                    form_swarm(state, &self.dir);
                }
                "sh" if argv[2].contains("/etc/init.d/docker restart") => {
                    assert!(self.dir.join(PROVISIONED).exists());
                }
                "/bin/cat" if argv[1] == REGISTRY_STATE => {
                    return Ok(match std::fs::read(self.dir.join(REGISTRY)) {
                        Ok(stdout) => NodeOutput { stdout, ..Default::default() },
                        Err(_) => NodeOutput { code: 1, ..Default::default() },
                    });
                }
                // It runs here, and finds the node's logs beside its disk.
                "/bin/sh" if argv.get(3) == Some(&READ_LOG_NAME) => {
                    let logs = self.dir.join("log");
                    let mut words = argv[1..].to_vec();
                    *words.last_mut().expect("it is the directory") = logs.to_str().expect("UTF-8");
                    let output = Command::new(argv[0]).args(words).output().expect("a shell");
                    let code = output.status.code().expect("nobody kills it");
                    return Ok(NodeOutput { code, stdout: output.stdout, stderr: output.stderr });
                }
                // The script's first argument is what is to be.
                "sh" => std::fs::write(self.dir.join(REGISTRY), argv[4]).expect("a file"),
                "/bin/cat" => {
                    return Ok(NodeOutput { stdout: b"{}".to_vec(), ..Default::default() });
                }
                // Its options are a file for the engine's service, and one that docker-machine's users know.
                "/bin/sh" => {
                    let profile = argv.last().expect("the script has arguments").as_bytes();
                    let told = [stdin, profile].concat();
                    std::fs::write(self.dir.join(CONFIGURED), told).expect("a file");
                }
                other => panic!("{other} is run in a node"),
            }
            Ok(NodeOutput::default())
        })
    }
}
