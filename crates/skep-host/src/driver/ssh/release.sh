# shellcheck shell=sh
# Takes back what setup.sh did to a host, as far as it is written down in /var/lib/skep, and does nothing
# where the host is not the caller's. Every part can be done again.
#   $1  whose the host is
#   $2  the directory of the certificates
#   $3  the file of the service's settings
#   $4  `keep` to leave an engine that was installed
# Before it come functions: firewall_NAME does what it is told, for each firewall that there is.
set -eu
owner=$1 certs=$2 settings=$3 keep=${4:-}
state=/var/lib/skep
export DEBIAN_FRONTEND=noninteractive
has() { command -v "$1" >/dev/null 2>&1; }

[ -e "$state/owner" ] || exit 0
if [ "$(cat "$state/owner")" != "$owner" ]; then
	echo "the host belongs to another cluster: $(cat "$state/owner")" >&2
	exit 1
fi
forward='' enabled='' active='' group=''
while IFS='=' read -r key value; do
	case $key in
	forward) forward=$value ;;
	enabled) enabled=$value ;;
	active) active=$value ;;
	group) group=$value ;;
	esac
done <"$state/before"

if has docker && [ -S /run/docker.sock ]; then
	case $(timeout 20 docker info -f '{{.Swarm.LocalNodeState}}' 2>/dev/null || :) in
	"" | inactive) ;;
	*) timeout 60 docker swarm leave --force >&2 || : ;;
	esac
	# What a swarm is verified with.
	probes=$(timeout 20 docker image ls -q skep/probe | sort -u)
	# shellcheck disable=SC2086 # several words
	[ -z "$probes" ] || timeout 60 docker image rm -f $probes >/dev/null 2>&1 || :
fi

if [ -e "$state/firewall" ]; then
	read -r firewall _ <"$state/firewall"
	case $firewall in
	nftables | iptables | firewalld | ufw) "firewall_$firewall" remove >&2 ;;
	esac
fi

rm -rf "$settings" "$certs"
# Registries of the cluster's that the engine trusted.
for mark in /etc/docker/certs.d/*/skep; do
	[ -e "$mark" ] || continue
	rm -rf "${mark%/*}"
done
rmdir /etc/docker/certs.d 2>/dev/null || :
rmdir "${settings%/*}" 2>/dev/null || :
systemctl daemon-reload

if [ -e "$state/packages.before" ]; then
	# The installation was cut off: what is there beside what was there before is ours.
	! has dpkg || dpkg --configure -a </dev/null >&2 || :
	if has dpkg-query; then
		dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^i. *//p' | sort >"$state/now"
	else
		rpm -qa --qf '%{NAME}\n' | sort >"$state/now"
	fi
	# Where the list was lost, nothing is known to be ours.
	if [ -s "$state/packages.before" ]; then
		comm -13 "$state/packages.before" "$state/now" >"$state/packages"
	fi
	rm "$state/packages.before" "$state/now"
fi

if [ -s "$state/packages" ] && [ -z "$keep" ]; then
	systemctl -q disable --now docker.service docker.socket 2>/dev/null || :
	if has iptables-save; then
		# The rules that the engine left, and nobody else's.
		for table in nat filter raw; do
			iptables-save -t "$table" 2>/dev/null | grep -vE 'DOCKER|docker0|docker_gwbridge' |
				sed 's/^:FORWARD DROP/:FORWARD ACCEPT/' | iptables-restore -T "$table" 2>/dev/null || :
		done
	fi
	for link in docker0 docker_gwbridge; do
		ip link delete "$link" 2>/dev/null || :
	done
	if has apt-get; then
		# shellcheck disable=SC2046 # several words
		apt-get -q -y -o DPkg::Lock::Timeout=120 purge $(dpkg-query -W -f '${Package}\n' | grep -Fx -f "$state/packages") </dev/null >&2
	else
		# shellcheck disable=SC2046 # several words
		dnf -q -y remove --setopt=clean_requirements_on_remove=False $(cat "$state/packages") </dev/null >&2
	fi
	rm -rf /var/lib/docker /var/lib/containerd /etc/docker /run/docker /run/docker.sock
	[ "$group" = yes ] || groupdel docker 2>/dev/null || :
	[ -z "$forward" ] || echo "$forward" >/proc/sys/net/ipv4/ip_forward
elif has dockerd; then
	if [ "$active" = active ] || [ -n "$keep" ]; then
		timeout 120 systemctl restart docker.service
	else
		systemctl stop docker.service docker.socket
	fi
	if [ "$enabled" = disabled ] && [ -z "$keep" ]; then
		systemctl -q disable docker.service 2>/dev/null || :
	fi
fi
rm -rf "$state"
