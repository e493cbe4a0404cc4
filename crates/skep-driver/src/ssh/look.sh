# shellcheck shell=sh
# Prints what has to be known of a host, a line each: a word, and what it says. Changes nothing.
say() { printf '%s %s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')"; }
has() { command -v "$1" >/dev/null 2>&1; }

if [ -r /etc/os-release ]; then
	. /etc/os-release
fi
say os "${PRETTY_NAME:-unknown}"
say family "${ID:-} ${ID_LIKE:-}"
say hostname "$(hostname 2>/dev/null || cat /etc/hostname)"
say user "$(id -u)"
say machine "$(uname -m)"
if [ -d /run/systemd/system ]; then say init systemd; fi
for packages in apt-get dnf; do
	if has "$packages"; then say packages "$packages"; fi
done
say free "$(df -Pk /var/lib 2>/dev/null | awk 'NR == 2 { print $4 }')"

# What skep has written down here.
if [ -r /var/lib/skep/owner ]; then say owner "$(cat /var/lib/skep/owner)"; fi
if [ -e /var/lib/skep/packages.before ]; then say unfinished packages; fi

if has dockerd; then say engine "$(dockerd --version 2>/dev/null)"; fi
if has docker && [ -S /run/docker.sock ]; then
	say swarm "$(timeout 10 docker info -f '{{.Swarm.LocalNodeState}}' 2>/dev/null)"
	say containers "$(timeout 10 docker ps -q 2>/dev/null | wc -l)"
fi
if has ss; then
	say listener "$(ss -Hltnp 'sport = :2376' 2>/dev/null | sed -n 's/.*users:((\("[^"]*"\).*/\1/p' | tr -d '"')"
fi
