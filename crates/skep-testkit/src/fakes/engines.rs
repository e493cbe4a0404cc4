//! Engines and their swarms: a majority of managers has to run for anything to be decided.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use skep_core::fixtures::{Swarm, Up};
use skep_core::model::{Availability, EngineImages, Role};
use skep_core::observed::{EngineState, Member, ObservedSwarm};
use skep_core::services::View;
use skep_docker::engine::{
    Container, Engine, EngineEvent, EngineImage, Engines, Error, EventsWanted, LogsWanted, Part,
    Place, ProbeAt, ProbeService, Remains, ServiceLine, Stream, Upload,
};
use skep_docker::oci::Source;
use skep_store::pki::Credentials;

use super::machines::PROVISIONED;
use super::{FakeHost, Join, State, Upload as Broken, act, streams};

/// On the machine's disk: the swarm and the ID that the engine has in it.
const MEMBERSHIP: &str = "membership";

/// On the machine's disk: the images that the engine has.
const IMAGES: &str = "images";

impl Engines for FakeHost {
    fn engine(
        &self,
        address: Ipv4Addr,
        credentials: &Credentials,
        _patience: Duration,
    ) -> Result<Box<dyn Engine>, Error> {
        assert!(credentials.ca.exists(), "an engine is asked before there is a certificate");
        Ok(Box::new(FakeEngine { state: self.state.clone(), address }))
    }
}

struct FakeEngine {
    state: Arc<Mutex<State>>,
    address: Ipv4Addr,
}

fn refused(message: &str) -> Error {
    Error::Refused { status: 503, message: message.to_owned() }
}

/// Finds the machine that has an address among those that run, by what is written down of it.
fn machine_at(state: &State, address: Ipv4Addr) -> Option<&PathBuf> {
    let quoted = format!("\"{address}\"");
    state.running.iter().find(|dir| {
        std::fs::read_to_string(dir.join("config.json")).is_ok_and(|text| text.contains(&quoted))
    })
}

fn images_on(dir: &Path) -> EngineImages {
    let text = std::fs::read(dir.join(IMAGES)).unwrap_or_default();
    EngineImages(serde_json::from_slice(&text).unwrap_or_default())
}

fn membership(dir: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(dir.join(MEMBERSHIP)).ok()?;
    text.split_once(' ').map(|(swarm, id)| (swarm.to_owned(), id.to_owned()))
}

/// Returns the members whose machines run.
fn up(state: &State) -> Up {
    state.running.iter().filter_map(|dir| membership(dir)).map(|(_, id)| id).collect()
}

impl FakeEngine {
    fn act<T>(
        &self,
        effect: impl FnOnce(&mut State, &Path) -> Result<T, Error>,
    ) -> Result<T, Error> {
        act(
            &self.state,
            || refused("injected"),
            |state| {
                let unreachable = || Error::Unreachable {
                    address: self.address,
                    source: Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
                };
                let dir = machine_at(state, self.address).ok_or_else(unreachable)?.clone();
                if !dir.join(PROVISIONED).exists() {
                    return Err(unreachable());
                }
                effect(state, &dir)
            },
        )
    }

    /// Does what only a manager can, and only while a majority of managers runs.
    fn decide<T>(
        &self,
        effect: impl FnOnce(&mut State, &str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.act(|state, dir| {
            let (swarm, id) = membership(dir).ok_or_else(|| refused("not in a swarm"))?;
            let own = state.swarms[&swarm].members.get(&id);
            if own.is_none_or(|own| own.role != Role::Manager) {
                return Err(refused("not a manager"));
            }
            if !state.swarms[&swarm].has_quorum(&up(state)) {
                return Err(refused("the swarm does not have a leader"));
            }
            effect(state, &swarm)
        })
    }

    /// As [`FakeEngine::decide`], of what changes the swarm and can be refused.
    fn change(
        &self,
        effect: impl FnOnce(&mut Swarm, &Up) -> Result<(), String>,
    ) -> Result<(), Error> {
        self.decide(|state, swarm| {
            let up = up(state);
            let swarm = state.swarms.get_mut(swarm).expect("it is there");
            effect(swarm, &up).map_err(|message| refused(&message))
        })
    }
}

/// Makes a machine's engine the first of a swarm, unless it is in one.
pub(super) fn form_swarm(state: &mut State, dir: &Path) {
    if membership(dir).is_none() {
        let swarm = format!("swarm{}", state.swarms.len());
        add_member(state, &swarm, dir, Role::Manager);
    }
}

fn add_member(state: &mut State, swarm: &str, dir: &Path, role: Role) {
    state.made += 1;
    let id = format!("member{}", state.made);
    std::fs::write(dir.join(MEMBERSHIP), format!("{swarm} {id}")).expect("a file");
    let hostname = dir.file_name().expect("a name").to_string_lossy().into_owned();
    state.swarms.entry(swarm.to_owned()).or_default().enter(&id, &hostname, role);
}

#[async_trait]
impl Engine for FakeEngine {
    async fn part(&self) -> Result<Part, Error> {
        if self.act(|state, dir| Ok(state.given_up.contains(dir)))? {
            return Ok(Part::Unsettled("error".to_owned()));
        }
        Ok(match self.state().await? {
            EngineState::Member { control: true, .. } => Part::Manager,
            EngineState::Member { .. } => Part::Worker,
            _ => Part::None,
        })
    }

    async fn state(&self) -> Result<EngineState, Error> {
        self.act(|state, dir| {
            let version = "26.1.5".to_owned();
            let Some((swarm, id)) = membership(dir) else {
                return Ok(EngineState::Inactive { version });
            };
            let own = state.swarms[&swarm].members.get(&id);
            let control = own.is_some_and(|own| own.role == Role::Manager);
            Ok(EngineState::Member { version, id, control })
        })
    }

    async fn init_swarm(&self, _advertise: Ipv4Addr) -> Result<(), Error> {
        self.act(|state, dir| {
            form_swarm(state, dir);
            Ok(())
        })
    }

    async fn recover_swarm(&self, _advertise: Ipv4Addr) -> Result<(), Error> {
        self.act(|state, dir| {
            let (swarm, id) = membership(dir).ok_or_else(|| refused("not in a swarm"))?;
            state.swarms.get_mut(&swarm).expect("it is there").recover(&id);
            Ok(())
        })
    }

    async fn join_token(&self, role: Role) -> Result<String, Error> {
        self.decide(|_, swarm| Ok(format!("{}:{swarm}", role.as_str())))
    }

    async fn join_swarm(
        &self,
        _advertise: Ipv4Addr,
        managers: &[Ipv4Addr],
        token: &str,
    ) -> Result<(), Error> {
        self.act(|state, dir| {
            assert!(!managers.is_empty(), "nobody to join through");
            match state.joins.get_mut(dir).and_then(VecDeque::pop_front) {
                None => {}
                Some(Join::Refused) => return Err(refused("rpc error: the managers are busy")),
                Some(Join::Forbidden) => {
                    let message = "invalid join token".to_owned();
                    return Err(Error::Refused { status: 400, message });
                }
                Some(Join::GivenUp) => {
                    let (role, swarm) = token.split_once(':').expect("a token of ours");
                    let role = if role == "manager" { Role::Manager } else { Role::Worker };
                    add_member(state, swarm, dir, role);
                    let _ = std::fs::remove_file(dir.join(MEMBERSHIP));
                    state.given_up.insert(dir.to_owned());
                    return Err(refused("Timeout was reached before node joined"));
                }
            }
            if membership(dir).is_none() {
                let (role, swarm) = token.split_once(':').expect("a token of ours");
                let role = if role == "manager" { Role::Manager } else { Role::Worker };
                add_member(state, swarm, dir, role);
            }
            Ok(())
        })
    }

    async fn leave_swarm(&self, _force: bool) -> Result<(), Error> {
        self.act(|state, dir| {
            state.given_up.remove(dir);
            let _ = std::fs::remove_file(dir.join(MEMBERSHIP));
            Ok(())
        })
    }

    async fn members(&self) -> Result<Vec<Member>, Error> {
        Ok(self.swarm().await?.members)
    }

    async fn swarm(&self) -> Result<ObservedSwarm, Error> {
        self.decide(|state, swarm| {
            let members = state.swarms[swarm].tell(&up(state));
            Ok(ObservedSwarm { id: swarm.to_owned(), members, probed: false })
        })
    }

    async fn configure_member(
        &self,
        id: &str,
        role: Role,
        set: &BTreeMap<String, String>,
        unset: &[String],
    ) -> Result<(), Error> {
        self.change(|swarm, up| swarm.configure(id, role, None, (set, unset), up))
    }

    async fn set_availability(&self, id: &str, availability: &str) -> Result<(), Error> {
        let availability = Availability::from_word(availability);
        self.change(|swarm, up| {
            let role = swarm.members.get(id).map_or(Role::Worker, |member| member.role);
            swarm.configure(id, role, availability, (&BTreeMap::new(), &[]), up)
        })
    }

    async fn forget_member(&self, id: &str, _force: bool) -> Result<(), Error> {
        self.change(|swarm, up| swarm.forget(id, up))
    }

    async fn running_tasks(&self, _id: &str) -> Result<usize, Error> {
        self.decide(|_, _| Ok(0))
    }

    async fn has_image(&self, _id: &str) -> Result<bool, Error> {
        self.act(|_, _| Ok(true))
    }

    async fn load_image(&self, _archive: &Path) -> Result<(), Error> {
        self.act(|_, _| Ok(()))
    }

    async fn images(&self) -> Result<Vec<EngineImage>, Error> {
        self.act(|_, dir| {
            let images = images_on(dir).0.into_iter();
            Ok(images
                .map(|(id, names)| EngineImage { id, names, bytes: 0, pulled: false })
                .collect())
        })
    }

    async fn layers(&self, _id: &str) -> Result<Vec<String>, Error> {
        self.act(|_, _| Ok(Vec::new()))
    }

    async fn load(&self, upload: Upload, told: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Error> {
        let broken = self.act(|state, dir| Ok(state.uploads.get(dir).copied()))?;
        let mut parts = upload.parts;
        match broken {
            None => {}
            Some(Broken::Deaf) => {
                // wait: as the real one does, for an engine that never answers.
                tokio::time::sleep(upload.silence).await;
                return Err(Error::Silent { limit: upload.silence });
            }
            Some(Broken::Full) => {
                let message = "write /layer: no space left on device".to_owned();
                return Err(Error::Refused { status: 500, message });
            }
            Some(Broken::Dies) => {
                let _ = parts.recv().await;
                self.act(|state, dir| Ok(state.running.remove(dir)))?;
                std::future::pending::<()>().await;
            }
        }
        let mut archive = tempfile::NamedTempFile::with_suffix(".tar").expect("a file");
        while let Some(part) = parts.recv().await {
            let part = part.map_err(|error| refused(&error.to_string()))?;
            archive.write_all(&part).expect("room");
        }
        let source = Source::parse(&archive.path().to_string_lossy());
        let set = source.set().await.map_err(|error| refused(&error.to_string()))?;
        told(0);
        self.act(|_, dir| {
            let mut images = images_on(dir);
            images.add(&set);
            let text = serde_json::to_vec(&images.0).expect("plain values");
            std::fs::write(dir.join(IMAGES), text).expect("a file");
            Ok(())
        })
    }

    async fn create_probe(&self, _name: &str, _: &str, _: ProbeAt<'_>) -> Result<(), Error> {
        self.act(|_, _| Ok(()))
    }

    async fn widen_probe(&self, _name: &str) -> Result<(), Error> {
        self.act(|_, _| Ok(()))
    }

    async fn place(&self) -> Result<Place, Error> {
        self.act(|_, _| Ok(Place { member: "one".to_owned(), architecture: "none".to_owned() }))
    }

    async fn probe(&self, _name: &str) -> Result<ProbeService, Error> {
        Err(refused("a port in memory answers nobody"))
    }

    async fn remove_probe(&self, _name: &str) -> Result<(), Error> {
        self.act(|_, _| Ok(()))
    }

    async fn service_problem(&self, _id: &str) -> Option<String> {
        None
    }

    async fn view(&self) -> Result<View, Error> {
        self.decide(|state, _| Ok(state.next_view()))
    }

    async fn task_log(&self, task: &str, _lines: usize) -> Result<Vec<String>, Error> {
        self.decide(|_, _| Ok(vec![format!("the last words of {task}")]))
    }

    async fn service_logs(
        &self,
        service: &str,
        wanted: &LogsWanted,
    ) -> Result<Stream<ServiceLine>, Error> {
        self.decide(|_, _| Ok(()))?;
        let dir = self.act(|_, dir| Ok(dir.to_owned()))?;
        Ok(streams::lines(&self.state, &dir, service, wanted.follow))
    }

    async fn events(&self, wanted: &EventsWanted) -> Result<Stream<EngineEvent>, Error> {
        let dir = self.act(|_, dir| Ok(dir.to_owned()))?;
        Ok(streams::events(&self.state, &dir, wanted))
    }

    async fn container(&self, id: &str) -> Result<Container, Error> {
        let last_check = Some(format!("exit code 1: {id} loads its data"));
        self.act(|_, _| Ok(Container { last_check, ..Container::default() }))
    }

    async fn shared_by(&self, _stack: &str) -> Result<Vec<String>, Error> {
        self.decide(|_, _| Ok(Vec::new()))
    }

    async fn remains(&self, _stack: &str) -> Result<Remains, Error> {
        self.act(|_, _| Ok(Remains::default()))
    }
}
