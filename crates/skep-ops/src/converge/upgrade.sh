# Brings the packages of a node's engine up to date, and starts anew what runs in an old version.
# $1 and $2: how many seconds the network may take each time, and the packages' installation.
# All is fetched before anything is changed: what cannot be had leaves the engine as it was.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C SVDIR=/etc/skep/sv
limit=$1

# The files of the engine's service are the node's own, not the package's.
get() {
	timeout "$limit" apt-get -q -y -o APT::Update::Error-Mode=any -o Acquire::Retries=0 \
		-o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 \
		-o Dpkg::Options::=--force-confold "$@" </dev/null 2>&1
}
versions() {
	dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\n' docker.io docker-ce docker-cli \
		docker-ce-cli containerd containerd.io runc 2>/dev/null | sed -n 's/^ii *//p'
}
# What became of the engine, and why.
give_up() {
	echo "the engine is as it was, as $1" >&2
	echo "$said" | grep '^E: ' | head -n 2 >&2
	exit 1
}
# A program whose file was replaced runs on from one that has no name any more.
is_replaced() {
	case $(readlink "/proc/$(pidof "$1")/exe" 2>/dev/null) in
	*' (deleted)') return 0 ;;
	esac
	return 1
}

said=
command -v apt-get >/dev/null || give_up 'this node has no apt-get'
# An upgrade may have been cut off.
dpkg --configure -a --force-confold </dev/null >/dev/null 2>&1
before=$(versions)
names=$(echo "$before" | cut -d ' ' -f 1)
said=$(get update) || give_up 'the lists of packages cannot be fetched'
# shellcheck disable=SC2086 # Each name is a word.
said=$(get install --only-upgrade --download-only $names) || give_up 'the packages cannot be fetched'
limit=$2
# shellcheck disable=SC2086
said=$(get install --only-upgrade --no-download $names) || {
	echo "$said" | tail -n 8 >&2
	exit 1
}
apt-get clean
for service in containerd docker; do
	program=$service
	[ $service != docker ] || program=dockerd
	if is_replaced $program; then
		sv -w 60 restart $service >/dev/null || exit 1
		echo "$service was started anew"
	fi
done
after=$(versions)
if [ "$before" = "$after" ]; then
	echo "nothing newer than $(docker --version | cut -d , -f 1) is there"
	exit 0
fi
echo "$after" | while read -r name version; do
	case "$before" in
	*"$name $version"*) ;;
	*) echo "$name is now $version" ;;
	esac
done
