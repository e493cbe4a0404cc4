//! Baking: a template's disk gets container images before the template is made.
//!
//! In a machine of its own, which is shut down again: what unpacking leaves in its memory would
//! otherwise be in that of the template, and of all its copies. It has one device more than machines
//! have, a port through which the images come; there is no network.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use skep_docker::oci::{self, Source};
use skep_sys::connect_in;
use skep_sys::shell::NodeShell as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::args::Memory;
use super::launch::{await_guest, explained, last_words};
use super::template::{Making, WARM_LIMIT, await_monitor};
use super::{Error, Files};
use crate::Remark;
use crate::shell::AgentShell;

/// What reads images from the port in a guest, and ends it.
pub(super) const BAKE: &str = include_str!("bake.sh");

/// The host's end of the port.
const SOCKET: &str = "run/images.sock";

/// The port's name in the guest.
const PORT: &str = "skep.images";

/// How long all images may take on hardware virtualization.
const LIMIT: Duration = Duration::from_secs(300);

impl Making<'_> {
    /// Puts the images on the template's disk.
    pub(super) async fn bake(&self, dir: &Path) -> Result<(), Error> {
        let files = Files::in_dir(dir);
        let slowness = self.emulator.profile().slowness();
        let mut invocation = self.invocation(&files);
        invocation.memory = Memory::Anonymous;
        let port = format!("socket,id=images,path={SOCKET},server=on,wait=off");
        let device = format!("virtserialport,chardev=images,name={PORT}");
        (self.say)(Remark::Progress("booting a machine to put images on the disk of"));
        let more = ["-chardev", &port, "-device", &device];
        let machine = self.process(&[dir], &invocation, &more).await?;
        let machine = machine.timeout((LIMIT + WARM_LIMIT) * slowness);
        let machine = machine.run();
        tokio::pin!(machine);
        let fed = async {
            await_monitor(dir).await;
            await_guest(dir, WARM_LIMIT * slowness).await?;
            for set in self.images {
                (self.say)(Remark::Progress(&format!("unpacking {}", set.source)));
                self.feed(dir, &set.source, LIMIT * slowness).await?;
            }
            let shell = AgentShell::new(dir.to_owned());
            let argv = ["/bin/sh", "-c", BAKE, "sh", "end"];
            shell.succeed("the end of the baking", &argv, b"", WARM_LIMIT * slowness).await?;
            // It may be gone before it has answered.
            let off = ["/sbin/poweroff"];
            let _ = shell.run(&off, b"", Duration::from_secs(5)).await;
            Ok::<_, Error>(())
        };
        tokio::select! {
            ended = &mut machine => {
                explained(ended)?;
                return Err(Error::Died(last_words(&files)));
            }
            fed = fed => fed?,
        }
        explained(machine.await)
    }

    /// Sends one source's images through the port while the guest's engine loads them.
    async fn feed(&self, dir: &Path, source: &str, limit: Duration) -> Result<(), Error> {
        // The guest reads to the end of the connection, so there has to be one when it begins.
        let socket = connect_in(dir, SOCKET).await.map_err(Error::Monitor)?;
        let shell = AgentShell::new(dir.to_owned());
        let argv = ["/bin/sh", "-c", BAKE, "sh", "load", PORT];
        let sender = tokio::task::spawn_blocking(sender(Source::parse(source), socket)?);
        let loaded = shell.succeed("the loading of images", &argv, b"", limit).await;
        // Whatever ended the loading ended the sending, unless the guest does not read any more: then
        // the end of the machine does.
        let sent = timeout(Duration::from_secs(1), sender).await;
        match (loaded, sent) {
            // The source broke off, and so what the guest read.
            (Err(_), Ok(Ok(Err(error)))) if !is_broken_pipe(&error) => Err(error.into()),
            (loaded, _) => Ok(loaded.map(|_| ())?),
        }
    }
}

/// Returns what sends a source's archive.
fn sender(
    source: Source,
    socket: UnixStream,
) -> Result<impl FnOnce() -> Result<(), oci::Error>, Error> {
    let blocking = || -> std::io::Result<_> {
        let socket = socket.into_std()?;
        socket.set_nonblocking(false)?;
        Ok(socket)
    };
    let mut socket = blocking().map_err(Error::Monitor)?;
    Ok(move || source.stream(&mut |piece| socket.write_all(&piece.bytes)).map(|_| ()))
}

fn is_broken_pipe(error: &oci::Error) -> bool {
    matches!(error, oci::Error::Read { source, .. } if source.kind() == ErrorKind::BrokenPipe)
}
