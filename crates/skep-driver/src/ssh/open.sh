# shellcheck shell=sh
# Lets the other nodes through the host's own firewall, and nobody else who was let in before. What is
# done is written down first, for release.sh. Before it come functions: detect prints which firewall is on, and
# firewall_NAME does what it is told, for each that there is.
#   $1      whose the host is
#   $2 ...  for each firewall its name, and a digest of what it is told
# Prints the name of the firewall, if that is told anything.
set -eu
owner=$1
shift
state=/var/lib/skep
ours=
if [ "$(cat "$state/owner" 2>/dev/null)" = "$owner" ]; then ours=yes; fi
recorded=
if [ -n "$ours" ]; then recorded=$(cat "$state/firewall" 2>/dev/null || :); fi

firewall=
for wanted; do
	# What is written down there is trusted as far as it names one of ours.
	if [ "${wanted% *}" = "${recorded% *}" ]; then firewall=${wanted% *}; fi
done
before=$firewall
detected=$(detect)
case $detected in *" closed") firewall=${detected% *} ;; esac
[ -n "$firewall" ] || exit 0
if [ -z "$ours" ]; then
	echo "the host belongs to another cluster" >&2
	exit 1
fi

if [ -n "$before" ] && [ "$before" != "$firewall" ]; then "firewall_$before" remove; fi
for wanted; do
	[ "${wanted% *}" != "$firewall" ] || break
done
if [ "$recorded" = "$wanted" ]; then
	now=$("firewall_$firewall" look)
	[ "$now" != on ] || exit 0
fi
echo "$wanted" >"$state/firewall.new"
mv "$state/firewall.new" "$state/firewall"
sync
"firewall_$firewall" apply >&2
echo "$firewall"
