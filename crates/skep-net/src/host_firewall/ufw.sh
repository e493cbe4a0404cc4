# --- what is done with them
PATH=$PATH:/usr/sbin:/sbin

# Prints the rules that are there, as words for ufw.
present() {
	ufw show added | sed -n "s/^ufw \\(.*\\) comment 'skep:$name'\$/\\1/p"
}

apply() {
	if ! ufw status | grep -q '^Status: active'; then
		echo "ufw is not active, so these rules wait for it" >&2
	fi
	remove
	rules | while read -r rule; do
		# shellcheck disable=SC2086 # The words are to be split.
		ufw $rule comment "skep:$name" >/dev/null </dev/null
	done
}

remove() {
	present | while read -r rule; do
		case $rule in
		'route '*) rule="route delete ${rule#route }" ;;
		*) rule="delete $rule" ;;
		esac
		# shellcheck disable=SC2086 # The words are to be split.
		ufw $rule >/dev/null </dev/null
	done
}

look() {
	if [ -n "$(present)" ]; then echo on; else echo off; fi
}
