# shellcheck shell=sh
# Prints what the log of a service has from a position on. Where runit logs, that is a file, which svlogd renames when it is
# full; where systemd does, it is the journal.
#   $1  the service
#   $2  the position, as an earlier call printed it; empty for the first call
#   $3  how many bytes of a file to print at most
#   $4  how many lines of the past the first call wants; empty for all that are kept
#   $5  the directory of runit's logs
# The first line of its output is the position behind what follows, and one of
#   end   that is all for now
#   more  there is more
#   lost  what was at the position is gone; this is the oldest that is kept
set -eu
name=$1 position=$2 most=$3 lines=$4 logs=$5

# The journal. A cursor is one word. Nobody reads more than some thousand lines of the past.
journal() {
	case $name in
	docker | containerd) set -- -u "$name.service" ;;
	sshd) set -- -u ssh.service -u sshd.service ;;
	*) exit 3 ;;
	esac
	command -v journalctl >/dev/null || exit 3
	case $position in
	j:?*) set -- "$@" "--after-cursor=${position#j:}" -n 5000 ;;
	*) set -- "$@" -n "${lines:-5000}" ;;
	esac
	text=$(TZ=UTC journalctl -q --no-pager -o short-iso --show-cursor "$@")
	cursor=$(printf '%s\n' "$text" | sed -n '$s/^-- cursor: //p')
	if [ -z "$cursor" ]; then
		printf '%s end\n' "${position:-j:}"
	else
		printf 'j:%s end\n' "$cursor"
		printf '%s\n' "$text" | sed '$d'
	fi
	exit 0
}

[ -e "$logs/$name/current" ] || journal
cd "$logs/$name"
inode='' offset=0 state=end
case $position in
f:*)
	inode=${position#f:}
	offset=${inode#*:} inode=${inode%%:*}
	;;
esac

# The last lines are usually in the newest file.
if [ -z "$inode" ] && [ -n "$lines" ]; then
	exec 3<current
	if [ "$(wc -l <&3)" -ge "$lines" ]; then
		# shellcheck disable=SC2046 # two words
		set -- $(stat -L -c '%i %s' /proc/self/fd/3)
		inode=$1 offset=$(($2 - $(tail -n "$lines" /proc/self/fd/3 | head -c "$2" | wc -c)))
		[ "$offset" -ge 0 ] || offset=0
	fi
fi

# show FILE: prints the file that is open as 3 from the offset on, and ends.
show() {
	size=$2 left=$(($2 - offset))
	if [ "$left" -lt 0 ]; then
		offset=0 left=$size state=lost
	fi
	if [ "$left" -gt "$most" ]; then
		left=$most
		[ "$state" = lost ] || state='more'
	elif [ "$3" != ./current ]; then
		# The next call looks for what follows the file.
		[ "$state" = lost ] || state='more'
	fi
	printf 'f:%s:%s %s\n' "$1" "$((offset + left))" "$state"
	tail -c "+$((offset + 1))" <&3 | head -c "$left"
	exit 0
}

# The oldest first: svlogd names files by the time at which they were full. What is open stays, whatever its name becomes.
passed=''
for file in ./@*.s ./current; do
	[ -e "$file" ] || continue
	exec 3<"$file"
	# shellcheck disable=SC2046 # two words
	set -- $(stat -L -c '%i %s' /proc/self/fd/3) "$file"
	if [ -z "$inode" ] || [ -n "$passed" ]; then
		offset=0
		show "$@"
	elif [ "$1" = "$inode" ]; then
		if [ "$file" = ./current ] || [ "$offset" -lt "$2" ]; then show "$@"; fi
		passed=yes
	fi
done
state=lost offset=0
for file in ./@*.s ./current; do
	[ -e "$file" ] || continue
	exec 3<"$file"
	# shellcheck disable=SC2046 # two words
	show $(stat -L -c '%i %s' /proc/self/fd/3) "$file"
done
exit 3
