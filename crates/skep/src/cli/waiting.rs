//! What commands that bring machines up wait for, and how they start them.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// How long to wait, and for what.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// How long each thing that is waited for may take, such as 90s or 5m; as long as fits this
    /// host if not given.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Do not wait until all nodes are Ready, nor until stacks have converged.
    #[arg(long)]
    pub no_wait: bool,
    /// What to verify when all nodes are Ready.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub verify: Verification,
    /// Verify nothing.
    #[arg(long, conflicts_with = "verify")]
    pub no_verify: bool,
    /// Boot new machines instead of forking a warm one.
    #[arg(long)]
    pub cold: bool,
    /// Start the engines of forked machines anew, so that each has an ID of its own at once and not
    /// only from its next start on.
    #[arg(long, conflicts_with = "cold")]
    pub unique_engine_ids: bool,
    /// What executes the guests; tried out if not given.
    #[arg(long, value_name = "KIND", env = "SKEP_ACCEL")]
    pub accel: Option<Accel>,
}

/// What is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Verification {
    /// As mesh, and as all where the machines are not emulated.
    #[default]
    Auto,
    /// That a published port answers through every node, engines over TLS, clocks and certificates.
    Mesh,
    /// The same, and that containers on two nodes find and reach each other on an overlay network.
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
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
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
