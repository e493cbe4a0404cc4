# shellcheck shell=sh
# Gives a host an engine that listens to clients with the right certificate. What it did is written down in
# /var/lib/skep, before it is done, for release.sh. Every part can be done again.
#   $1  whose the host is, or empty if nothing is to be taken back
#   $2  where an engine comes from if there is none: a URL of a script, with the digest that it must have
#       (`#sha256=…`) unless the user took that upon themselves, or empty for the distribution
#   $3  the host's name, or empty to keep the one it has
#   $4  the directory of the certificates
#   $5  the file of the service's settings; @EXEC@ in it stands for the engine's command
#       line as it was, @DOCKERD@ for its program
# Its standard input has files: a line `--- PATH`, then the file's lines.
set -eu
umask 077
owner=$1 url=$2 name=$3 certs=$4 settings=$5
state=/var/lib/skep
export DEBIAN_FRONTEND=noninteractive
has() { command -v "$1" >/dev/null 2>&1; }
progress() { printf 'skep: %s\n' "$1" >&2; }

# In memory, as there are keys in it. The directory's name tells whose it is: what is left of a run that was killed
# goes with the next one. dash(1) leaves out the EXIT trap when a signal ends it.
for left in /run/skep-*.*; do
	pid=${left##*/skep-}
	pid=${pid%%.*}
	[ ! -d "$left" ] || kill -0 "$pid" 2>/dev/null || rm -rf "$left"
done
trap 'rm -rf "$new"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
new=
new=$(mktemp -d "/run/skep-$$.XXXXXX")
file=/dev/null
while IFS= read -r line; do
	case $line in
	"--- "*) file=$new/${line#--- }; : >"$file" ;;
	*) printf '%s\n' "$line" >>"$file" ;;
	esac
done
# Packages' own scripts, and directories that others read, expect the usual one.
umask 022

# An engine may come from packages of its own, or from a script that adds a source of them.
apt() { apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null >&2; }
refresh() {
	if has apt-get; then
		dpkg --configure -a </dev/null >&2
		apt update
	elif ! has dnf; then
		echo "there is neither apt-get nor dnf to install an engine with" >&2
		exit 1
	fi
}
install_packages() {
	if has apt-get; then
		apt install --no-install-recommends "$@"
	else
		dnf -q -y install "$@" </dev/null >&2
	fi
}
# fetch URL FILE
fetch() {
	if has curl; then
		curl --proto =https --proto-redir =https -fsSL -o "$2" "$1"
	else
		wget --https-only -qO "$2" "$1"
	fi
}
list_packages() {
	if has dpkg-query; then
		dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | sort
	else
		rpm -qa --qf '%{NAME}\n' | sort
	fi
}

if [ -n "$owner" ] && [ -e "$state/owner" ] && [ "$(cat "$state/owner")" != "$owner" ]; then
	echo "the host belongs to another cluster: $(cat "$state/owner")" >&2
	exit 1
fi
if [ -n "$owner" ] && [ ! -e "$state/owner" ]; then
	mkdir -p "$state"
	{
		echo "forward=$(cat /proc/sys/net/ipv4/ip_forward)"
		echo "enabled=$(systemctl is-enabled docker.service 2>/dev/null || :)"
		echo "active=$(systemctl is-active docker.service 2>/dev/null || :)"
		echo "group=$(getent group docker >/dev/null && echo yes || :)"
	} >"$state/before"
	printf '%s\n' "$owner" >"$state/owner"
fi

# An engine. One whose installation was cut off is not there yet.
if ! has dockerd || [ -e "$state/packages.before" ]; then
	if [ -e "$state/packages.before" ]; then
		# A power cut leaves files that were just written empty, and apt believes in them.
		rm -rf /var/lib/apt/lists/*_* /var/cache/apt/archives/*.deb
	else
		mkdir -p "$state"
		list_packages >"$new/packages"
		if ! grep -qxE 'dpkg|rpm' "$new/packages"; then
			echo "the list of packages cannot be had" >&2
			exit 1
		fi
		mv "$new/packages" "$state/packages.before"
		# What is not in this list will be removed one day: it has to outlive a power cut.
		sync
	fi
	progress "installing an engine"
	if [ -n "$url" ]; then
		if ! has curl && ! has wget; then
			refresh
			install_packages curl ca-certificates
		fi
		digest=
		case $url in
		*"#sha256="*) digest=${url##*"#sha256="} url=${url%"#sha256="*} ;;
		esac
		if ! fetch "$url" "$new/install"; then
			echo "the script at $url cannot be fetched" >&2
			exit 1
		fi
		if [ -n "$digest" ]; then
			found=$(sha256sum <"$new/install")
			if [ "${found%% *}" != "$digest" ]; then
				echo "the script at $url is not the one that was named: its SHA-256 digest is ${found%% *}" >&2
				exit 1
			fi
		fi
		sh "$new/install" </dev/null >&2
		if ! has dockerd; then
			echo "the script at $url has installed no engine" >&2
			exit 1
		fi
	elif refresh && has apt-get; then
		packages=docker.io
		if apt-cache show docker-cli >/dev/null 2>&1; then packages="$packages docker-cli"; fi
		# shellcheck disable=SC2086 # several words
		install_packages $packages ca-certificates iptables
	else
		packages=
		for package in moby-engine docker-ce; do
			if dnf -q list --available "$package" >/dev/null 2>&1; then
				packages=$package
				break
			fi
		done
		if [ -z "$packages" ]; then
			echo "dnf has neither moby-engine nor docker-ce; give an install_url (https://…#sha256=DIGEST)" >&2
			exit 1
		fi
		install_packages "$packages"
	fi
	# Where the list was lost, nothing is known to be ours.
	if [ -n "$owner" ] && [ -s "$state/packages.before" ]; then
		list_packages >"$new/packages"
		comm -13 "$state/packages.before" "$new/packages" >"$state/packages.new"
		# What the user asks for by name later stays one day.
		if has apt-mark; then apt-mark showmanual | sort >"$state/manual"; fi
		mv "$state/packages.new" "$state/packages"
	fi
	rm "$state/packages.before"
	if [ -n "$name" ] && [ "$name" != "$(hostname)" ]; then
		progress "calling the host $name"
		echo "$name" >/etc/hostname
		hostname "$name"
		if grep -q '^127\.0\.1\.1' /etc/hosts; then
			sed -i "s/^127\.0\.1\.1.*/127.0.1.1 $name/" /etc/hosts
		else
			echo "127.0.1.1 $name" >>/etc/hosts
		fi
	fi
fi

# The engine's own command line, as it is without our settings.
dockerd=$(command -v dockerd)
exec_start=
if grep -q '@EXEC@' "$new/settings"; then
	if [ ! -s "$state/exec" ] || [ ! -e "$settings" ]; then
		# Settings of others in our place, such as docker-machine's own, do not count.
		mkdir -p "$state"
		[ ! -e "$settings" ] || mv "$settings" "$settings.aside"
		systemctl daemon-reload
		systemctl show docker.service -p ExecStart --value |
			sed -n 's/.*argv\[\]=\(.*\) ; ignore_errors=.*/\1/p' >"$new/exec"
		[ -s "$new/exec" ] || echo "$dockerd -H fd://" >"$new/exec"
		mv "$new/exec" "$state/exec"
		[ ! -e "$settings.aside" ] || mv "$settings.aside" "$settings"
	fi
	read -r exec_start <"$state/exec"
fi
while IFS= read -r line; do
	case $line in
	*@EXEC@*) line="${line%%@EXEC@*}$exec_start${line#*@EXEC@}" ;;
	*@DOCKERD@*) line="${line%%@DOCKERD@*}$dockerd${line#*@DOCKERD@}" ;;
	esac
	printf '%s\n' "$line"
done <"$new/settings" >"$new/rendered"

changed=
put() {
	if ! cmp -s "$1" "$2"; then
		mkdir -p "${2%/*}"
		cp "$1" "$2.new"
		mv "$2.new" "$2"
		changed=yes
	fi
}
mkdir -p /etc/docker "$certs"
for file in ca.pem server.pem server-key.pem; do
	put "$new/$file" "$certs/$file"
done
[ ! -e "$settings" ] || cp "$settings" "$new/old"
put "$new/rendered" "$settings"
chmod 644 "$settings"
systemctl daemon-reload
systemctl -q enable docker.service 2>/dev/null || :

if [ -n "$changed" ] || ! systemctl -q is-active docker.service; then
	progress "starting the engine anew"
	systemctl reset-failed docker.service 2>/dev/null || :
	if ! timeout 120 systemctl restart docker.service; then
		journalctl -q -u docker.service -n 40 --no-pager -o cat 2>/dev/null | grep -iE 'fail|error|conflict|unable|cannot' | tail -n 6 >&2
		# The engine that was there goes on as it was.
		if [ -e "$new/old" ]; then cp "$new/old" "$settings"; else rm -f "$settings"; fi
		systemctl daemon-reload
		systemctl reset-failed docker.service 2>/dev/null || :
		timeout 120 systemctl restart docker.service || :
		exit 1
	fi
fi
