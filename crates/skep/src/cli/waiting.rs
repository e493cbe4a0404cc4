//! What commands that bring machines up wait for, and how they start them. Each command flattens the groups of options
//! that do something for it, and no others.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// How machines are brought up and what is waited for: everything that `up` and `node add` take.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Waiting {
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub ready: Ready,
    #[command(flatten)]
    pub birth: Birth,
}

/// How long each wait may take, and what executes guests: for whatever starts machines.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Limits {
    /// Timeout of each wait, for example 90s or 5m [default: depends on the host].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Accelerator [default: auto-detect].
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    pub accel: Option<Accel>,
}

/// What comes once machines run: for whatever brings up a whole cluster.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Ready {
    /// Do not wait until nodes are Ready and stacks have converged.
    #[arg(long)]
    pub no_wait: bool,
    /// What to verify once all nodes are Ready.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub verify: Verification,
    /// Same as --verify none.
    #[arg(long, conflicts_with = "verify")]
    pub no_verify: bool,
}

/// How machines come to be: for whatever creates some.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Birth {
    /// Boot new machines instead of forking a template.
    #[arg(long)]
    pub cold: bool,
    /// Restart the engines of forked machines, so that each has a unique engine ID at once and
    /// not only after its next start.
    #[arg(long, conflicts_with = "cold")]
    pub unique_engine_ids: bool,
}

/// What is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Verification {
    /// `all`, or `mesh` under emulation.
    #[default]
    Auto,
    /// A published port on every node, engines over TLS, clocks and certificates.
    Mesh,
    /// As `mesh`, and DNS and traffic between two nodes on an overlay network.
    All,
    /// Nothing.
    None,
}

/// What executes the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// Hardware virtualization.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// Reads a duration such as `90s`, `5m`, `1h`, or a number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write a time such as 90s, 5m or 1h".to_owned()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("write a time such as 90s, 5m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("5m").unwrap(), Duration::from_secs(300));
        for bad in ["", "0s", "s", "5x", "-1s", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
