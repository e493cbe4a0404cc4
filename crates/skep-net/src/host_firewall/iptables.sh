# --- what is done with them
PATH=$PATH:/usr/sbin:/sbin
# An empty chain that says that the table was not there before skep; only nftables can delete one.
made=SKEP-MADE

# Prints our chains and rules, as a part of the table filter.
section() {
	for hook in $hooks; do echo ":$prefix-$hook - [0:0]"; done
	for hook in $hooks; do rules "$(echo "$hook" | tr '[:upper:]' '[:lower:]')"; done
}

jump() {
	echo "$1 -m comment --comment skep:$name -j $prefix-$1"
}

# Prints the files that restore the rules when the host starts.
saved() {
	for conf in /etc/iptables/rules.v4 /etc/sysconfig/iptables; do
		if [ -f "$conf" ]; then readlink -f "$conf"; fi
	done
}

forget() {
	for conf in $(saved); do
		if grep -q "[ :]$prefix-" "$conf"; then sed -i "/[ :]$prefix-/d" "$conf"; fi
	done
}

keep() {
	if [ -z "$(saved)" ]; then
		echo "nothing restores iptables' rules when this host starts, so these last until then" >&2
		return
	fi
	text=$(mktemp)
	{
		section
		for hook in $hooks; do echo "-A $(jump "$hook")"; done
	} >"$text"
	for conf in $(saved); do sed -i "/^\\*filter\$/r $text" "$conf"; done
	rm -f "$text"
}

is_new() {
	case $(iptables --version) in
	*nf_tables*) command -v nft >/dev/null 2>&1 && ! nft list table ip filter >/dev/null 2>&1 ;;
	*) false ;;
	esac
}

apply() {
	new=
	if is_new; then new=yes; fi
	{
		echo '*filter'
		section
		echo COMMIT
	} | iptables-restore -w --noflush
	for hook in $hooks; do
		# shellcheck disable=SC2046 # The words are to be split.
		iptables -w -C $(jump "$hook") 2>/dev/null || iptables -w -I $(jump "$hook")
	done
	if [ -n "$new" ]; then iptables -w -N "$made"; fi
	forget
	keep
}

remove() {
	for hook in $hooks; do
		chain=$prefix-$hook
		if ! iptables -w -n -L "$chain" >/dev/null 2>&1; then continue; fi
		# shellcheck disable=SC2046 # The words are to be split.
		while iptables -w -D $(jump "$hook") 2>/dev/null; do :; done
		iptables -w -F "$chain"
		iptables -w -X "$chain"
	done
	if iptables -w -n -L "$made" >/dev/null 2>&1; then
		rest=$(iptables -w -S | grep -v -e '^-P [A-Z]* ACCEPT$' -e "^-N $made\$" || true)
		if [ -z "$rest" ]; then
			nft delete table ip filter
		elif ! echo "$rest" | grep -q skep; then
			iptables -w -X "$made"
		fi
	fi
	forget
}

look() {
	for hook in $hooks; do
		# shellcheck disable=SC2046 # The words are to be split.
		if ! iptables -w -C $(jump "$hook") 2>/dev/null; then
			echo off
			return
		fi
	done
	echo on
}
