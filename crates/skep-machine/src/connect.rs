//! Connections to engines: their URLs, whether TLS works, which version answers; and `config`.

use gotemplate::go_quote;
use skep_docker::engine::remote::{self, RemoteError};
use skep_print::out;

use super::call::Call;
use super::driver::Machine;
use super::failure::Failure;

/// Returns the host and port of a URL; empty if it has none.
#[must_use]
pub fn authority(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("//") else { return "" };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}

/// Returns what Go says of a text that is no URL.
///
/// # Errors
///
/// The text.
pub fn check_url(url: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("parse {}: {why}", go_quote(url)));
    if url.chars().any(|letter| letter.is_ascii_control()) {
        return wrong("net/url: invalid control character in URL");
    }
    let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match url.find(|c| !scheme(c)) {
        Some(0) if url.starts_with(':') => wrong("missing protocol scheme"),
        Some(at) if url[at..].starts_with(':') => {
            let is_scheme = url.starts_with(|c: char| c.is_ascii_alphabetic());
            if is_scheme { Ok(()) } else { wrong("first path segment in URL cannot contain colon") }
        }
        _ => Ok(()),
    }
}

/// Returns the URL of a machine's old swarm: the machine's, with the port of its swarm's host.
#[must_use]
pub fn swarm_url(url: &str, swarm_host: &str) -> String {
    let port = |url: &str| url.rsplit(':').next().unwrap_or_default().to_owned();
    url.replacen(&format!(":{}", port(url)), &format!(":{}", port(swarm_host)), 1)
}

/// Asks an engine for its version.
///
/// # Errors
///
/// If it cannot be had, in docker-machine's words.
pub async fn engine_version(machine: &Machine, url: &str) -> Result<String, String> {
    let address = authority(url);
    let credentials = machine.credentials();
    remote::version(address, &credentials).await.map_err(|error| {
        let cause = match error {
            RemoteError::Refused(_) => "Cannot connect to the docker engine endpoint".to_owned(),
            RemoteError::Files(text) => format!("Unable to read TLS config: {text}"),
            RemoteError::Other(text) => format!("Get \"https://{address}/v1.15/version\": {text}"),
        };
        format!("Unable to query docker version: {cause}")
    })
}

/// Returns the URL to use, after a look whether TLS works there.
///
/// # Errors
///
/// If the machine does not run or its certificates do not fit.
pub async fn check(machine: &Machine, swarm: bool) -> Result<String, String> {
    let own = machine.url().await?;
    if !swarm {
        check_tls(machine, &own).await?;
        return Ok(own);
    }
    let options = &machine.config.host_options.swarm_options;
    if !options.master {
        return Err(format!(
            "{} is not a swarm master. The --swarm flag is intended for use with swarm masters",
            go_quote(machine.name())
        ));
    }
    let host = authority(&own).split(':').next().unwrap_or_default();
    let port = authority(&options.host).split(':').nth(1).unwrap_or_default();
    let url = format!("tcp://{host}:{port}");
    match check_tls(machine, &url).await {
        Ok(()) => Ok(url),
        Err(_) if check_tls(machine, &own).await.is_ok() => {
            Err("Connection to Swarm cannot be checked but the certs are valid. \
                 Maybe swarm is not started"
                .to_owned())
        }
        Err(error) => Err(error),
    }
}

async fn check_tls(machine: &Machine, url: &str) -> Result<(), String> {
    let address = authority(url);
    remote::check(address, &machine.credentials()).await.map_err(|error| {
        format!(
            "Error checking and/or regenerating the certs: There was an error validating \
             certificates for host {}: {error}\n\
             You can attempt to regenerate them using 'docker-machine regenerate-certs [name]'.\n\
             Be advised that this will trigger a Docker daemon restart which might stop running \
             containers.\n",
            go_quote(address)
        )
    })
}

/// Prints the options that let docker speak to a machine.
pub(super) async fn config(call: &Call) -> Result<(), Failure> {
    call.say.step_aside();
    let machine = call.load(&call.target()?)?;
    let url = check(&machine, call.given.switch("swarm")).await;
    let url = url.map_err(|error| format!("Error running connection boilerplate: {error}"))?;
    let file = |name: &str| {
        let path = call.store.machine_dir(machine.name()).join(name);
        go_quote(&path.to_string_lossy())
    };
    out!(
        "--tlsverify\n--tlscacert={}\n--tlscert={}\n--tlskey={}\n-H={url}\n",
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_as_go_does() {
        assert_eq!(authority("tcp://1.2.3.4:5/x"), "1.2.3.4:5");
        assert_eq!(authority("u"), "");
        assert_eq!(swarm_url("tcp://h:2376", "tcp://0.0.0.0:3376"), "tcp://h:3376");
        assert!(
            check_url("tcp://h:1").is_ok() && check_url("u").is_ok() && check_url("h:1").is_ok()
        );
        let error = check_url("127.0.0.1:2376").unwrap_err();
        assert_eq!(
            error,
            "parse \"127.0.0.1:2376\": first path segment in URL cannot contain colon"
        );
        assert!(check_url(":1").unwrap_err().ends_with("missing protocol scheme"));
    }
}
