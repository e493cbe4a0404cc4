# shellcheck shell=sh
# Takes back what setup.sh did to a host, as far as it is written down in /var/lib/skep, and does nothing
# where the host is not the caller's. Every part can be done again.
#   $1  whose the host is
#   $2  the directory of the certificates
#   $3  the file of the service's settings
#   $4  `keep` to leave an engine that was installed
# Prints what stays, and why, a line each.
# Before it come functions: firewall_NAME does what it is told, for each firewall that there is.
set -eu
owner=$1 certs=$2 settings=$3 keep=${4:-}
state=/var/lib/skep
export DEBIAN_FRONTEND=noninteractive
has() { command -v "$1" >/dev/null 2>&1; }

for left in /run/skep-*.*; do
	pid=${left##*/skep-}
	pid=${pid%%.*}
	[ ! -d "$left" ] || kill -0 "$pid" 2>/dev/null || rm -rf "$left"
done

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

# going PACKAGE...: prints all that goes with these packages.
going() {
	if has apt-get; then
		# shellcheck disable=SC2086 # several words
		apt-get -q -s -o Debug::NoLocking=1 purge "$@" </dev/null | sed -n 's/^\(Purg\|Remv\) \([^ ]*\) .*/\2/p'
	else
		printf '%s\n' "$@"
		for package; do
			dnf -q repoquery --installed --whatrequires "$package" --qf '%{name}\n' </dev/null ||
				# Nothing is known to be unneeded then.
				echo "(what dnf cannot list)"
		done
	fi | sed '/^$/d' | sort -u
}
# Others may have come to need what came with us since. Only what nobody else needs goes; $gone has it, a line each.
choose() {
	if has dpkg-query; then
		dpkg-query -W -f '${Package}\n' | grep -Fx -f "$state/packages" >"$state/gone" || :
	else
		cp "$state/packages" "$state/gone"
	fi
	if [ -e "$state/manual" ]; then
		apt-mark showmanual | sort | comm -13 "$state/manual" - | grep -Fx -f "$state/gone" >"$state/asked" || :
		while read -r package; do
			echo "$package stays: it was asked for there since"
		done <"$state/asked"
		grep -vFx -f "$state/asked" "$state/gone" >"$state/rest" || :
		mv "$state/rest" "$state/gone"
		rm "$state/asked"
	fi
	while [ -s "$state/gone" ]; do
		# shellcheck disable=SC2046 # several words
		going $(cat "$state/gone") >"$state/all"
		# What is asked may fail, as when a repository is broken: then nothing is known to be unneeded.
		[ -s "$state/all" ] || { echo "all packages stay: what needs them cannot be told"; : >"$state/gone"; break; }
		[ -n "$(grep -vFx -f "$state/gone" "$state/all" || :)" ] || break
		: >"$state/rest"
		while read -r package; do
			others=$(going "$package" | grep -vFx -f "$state/gone" | tr '\n' ' ' || :)
			if [ -z "$others" ]; then
				echo "$package" >>"$state/rest"
				continue
			fi
			echo "$package stays: ${others% } needs it, which came later"
			# It goes with what needs it, if apt is asked to clean up then.
			! has apt-mark || apt-mark -q auto "$package" >/dev/null 2>&1 || :
		done <"$state/gone"
		if cmp -s "$state/gone" "$state/rest"; then : >"$state/rest"; fi
		mv "$state/rest" "$state/gone"
	done
	rm -f "$state/all" "$state/rest"
}

if [ -s "$state/packages" ] && [ -z "$keep" ]; then
	choose
	# The engine itself: what is told it, and its data, stay or go with it.
	if has dpkg-query; then
		engine=$(dpkg-query -S "$(command -v dockerd)" 2>/dev/null | sed 's/:.*//' || :)
	else
		engine=$(rpm -qf --qf '%{NAME}\n' "$(command -v dockerd)" 2>/dev/null || :)
	fi
	if has dockerd && ! grep -qFx "${engine:-none}" "$state/gone"; then keep=needed; fi
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
		apt-get -q -y -o DPkg::Lock::Timeout=120 purge $(cat "$state/gone") </dev/null >&2
	else
		# shellcheck disable=SC2046 # several words
		dnf -q -y remove --setopt=clean_requirements_on_remove=False $(cat "$state/gone") </dev/null >&2
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
