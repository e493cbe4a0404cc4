//! Images of a stack that were loaded into nodes, which no registry has to be asked for.

use std::collections::{BTreeMap, BTreeSet};

use skep_core::model::{ClusterName, NodeName};
use skep_core::services::{Service, Task, TaskState, View};
use skep_docker::engine::EngineImage;
use skep_docker::oci::familiar;
use skep_docker::stack::Swarm;
use skep_ops::Run;
use skep_ops::observe::Damage;
use skep_print::errln;
use skep_store::ClusterDir;

/// What the engines of a cluster have.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// How many members the swarm has.
    members: usize,
    /// The images of each engine that told.
    images: BTreeMap<NodeName, Vec<EngineImage>>,
}

impl Loaded {
    /// Asks all engines; one that does not answer counts as having no images.
    pub(super) async fn look(run: &Run<'_>, dir: &ClusterDir) -> Self {
        let Ok(seen) = run.observe(dir, Damage::List).await else { return Self::default() };
        let members = seen.swarm.as_ref().map_or(0, |swarm| swarm.members.len());
        let told = run.images_by_node(dir, &seen).await.into_iter();
        let images = told.filter_map(|(node, has)| Some((node, has.ok()?))).collect();
        Self { members, images }
    }

    /// Tells whether every node of the swarm has all of these images, and from no registry: then none is asked. One that does
    /// not answer would take minutes, one that has another image of that name would win over what was loaded.
    pub(super) fn are_all(&self, images: &BTreeSet<String>) -> bool {
        self.members == self.images.len()
            && self.images.values().all(|has| were_loaded(images, has))
    }

    /// Returns the services whose tasks run a registry's image, though one of the name that the file has was loaded.
    pub(super) fn overruled<'v>(
        &self,
        view: &'v View,
        images: &BTreeSet<String>,
    ) -> Vec<&'v Service> {
        let named = |service: &Service| images.contains(&service.image);
        let is_loaded = |service: &Service| {
            self.images.values().any(|has| loaded_id(has, &service.image).is_some())
        };
        let services = view.services.iter();
        services.filter(|it| it.pinned && named(it) && is_loaded(it)).collect()
    }

    /// Returns the services that are what was asked for, but run another image than was loaded last under its name.
    pub(super) async fn outdated<'v>(&self, swarm: Swarm<'_>, view: &'v View) -> Vec<&'v Service> {
        let mut outdated = Vec::new();
        for service in view.services.iter().filter(|service| !service.pinned) {
            for task in view.tasks_of(service).filter(|task| runs(task)) {
                let runs_old = async {
                    let node: NodeName = view.hostname(task.node.as_ref()?)?.parse().ok()?;
                    let wanted = loaded_id(self.images.get(&node)?, &task.image)?;
                    let engine = swarm.node(&node).ok()?;
                    let container = engine.container(task.container.as_ref()?).await.ok()?;
                    Some(container.image != wanted)
                };
                if runs_old.await == Some(true) {
                    outdated.push(service);
                    break;
                }
            }
        }
        outdated
    }
}

/// Names the services that go on with the image that their nodes had before under the same name: neither docker nor the
/// swarm sees a change in them.
pub(in crate::commands) async fn tell_of_outdated(run: &Run<'_>, dir: &ClusterDir) {
    let swarm = run.swarm(dir);
    // Without a manager there are no services to speak of.
    let Ok(manager) = swarm.manager().await else { return };
    let Ok(view) = manager.view().await else { return };
    let outdated = Loaded::look(run, dir).await.outdated(swarm, &view).await;
    for service in outdated {
        errln!("warning: {}", told(dir.name(), service));
    }
}

fn told(cluster: &ClusterName, service: &Service) -> String {
    let Service { name, image, .. } = service;
    format!(
        "{name} goes on with the {image} that was loaded before; start the new one with: \
         skep docker --cluster {cluster} -- service update --force {name}"
    )
}

/// Tells whether a task runs and is what its service asks for.
fn runs(task: &Task) -> bool {
    task.current && task.state == TaskState::Running
}

/// Returns the ID of an image that an engine has from no registry.
fn loaded_id<'i>(has: &'i [EngineImage], name: &str) -> Option<&'i str> {
    let name = familiar(name);
    let image = has.iter().find(|image| !image.pulled && image.names.contains(&name));
    image.map(|image| image.id.as_str())
}

/// Tells whether an engine has all of these images, and from no registry.
fn were_loaded(images: &BTreeSet<String>, has: &[EngineImage]) -> bool {
    let was = |name: &String| match name.starts_with("sha256:") {
        // No registry knows an ID.
        true => has.iter().any(|image| image.id == *name),
        false => loaded_id(has, name).is_some(),
    };
    !images.is_empty() && images.iter().all(was)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skep_testkit::fakes::FakeHost;

    use super::*;
    use crate::commands::stack::list::tests::view;

    fn image(id: &str, name: &str, pulled: bool) -> EngineImage {
        let (id, names) = (format!("sha256:{id}"), [name.to_owned()].into());
        EngineImage { id, names, bytes: 0, pulled }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_registry_is_asked_for_what_came_from_one_or_is_not_there() {
        let has = [
            image("app", "app:1", false),
            image("web", "hub.example:5000/web:latest", false),
            image("nginx", "nginx:1", true),
        ];
        let loaded = |images: &[&str]| were_loaded(&names(images), &has);
        assert!(loaded(&["app:1", "hub.example:5000/web", "docker.io/library/app:1"]));
        assert!(
            !loaded(&["app:1", "nginx:1"]),
            "it came from a registry, which may have a newer one"
        );
        assert!(loaded(&["sha256:nginx"]) && !loaded(&["sha256:other"]));
        assert!(!loaded(&["app:2"]) && !loaded(&["app:1", "app@sha256:00"]));
        assert!(!loaded(&[]), "the docker command did not tell");
    }

    #[test]
    fn a_registrys_image_in_the_place_of_a_loaded_one_is_named() {
        let service = |name: &str, image: &str, pinned| Service {
            image: image.to_owned(),
            pinned,
            ..skep_core::fixtures::service(name, name)
        };
        let services = vec![
            service("web", "app:1", true),
            service("own", "app:1", false),
            service("hub", "nginx:1", true),
            service("by-digest", "app", true),
        ];
        let view = View { services, ..View::default() };
        let has = vec![
            image("app", "app:1", false),
            image("other", "app:latest", false),
            image("nginx", "nginx:1", true),
        ];
        let images = [(NodeName::numbered(0), has)].into();
        let loaded = Loaded { members: 1, images };
        let overruled = loaded.overruled(&view, &names(&["app:1", "nginx:1", "app@sha256:00"]));
        assert_eq!(overruled.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["web"]);
    }

    #[tokio::test]
    async fn a_service_that_runs_what_was_loaded_before_is_named_with_what_starts_the_new_one() {
        let host = FakeHost::formed(1, 0).await;
        let dir = host.cluster("demo");
        let swarm = Swarm { dir: &dir, engines: &host, patience: Duration::from_secs(1) };
        let mut view = view();
        view.nodes[0].hostname = "node0".to_owned();
        view.tasks.iter_mut().for_each(|task| task.container = Some("c1".to_owned()));
        // The fake's container was made from another image than this one.
        let has = vec![image("new", "nginx:latest", false)];
        let loaded = Loaded { members: 1, images: [(NodeName::numbered(0), has)].into() };
        let outdated = loaded.outdated(swarm, &view).await;
        assert_eq!(outdated.len(), 1);
        let said = told(dir.name(), outdated[0]);
        assert!(said.starts_with("shop_web goes on with the nginx:latest"), "{said}");
        assert!(
            said.ends_with("skep docker --cluster demo -- service update --force shop_web"),
            "{said}"
        );
        // What is being replaced, and what a registry has, is as it should be.
        view.tasks.iter_mut().for_each(|task| task.current = false);
        assert!(loaded.outdated(swarm, &view).await.is_empty());
        view.tasks.iter_mut().for_each(|task| task.current = true);
        view.services[0].pinned = true;
        assert!(loaded.outdated(swarm, &view).await.is_empty());
    }
}
