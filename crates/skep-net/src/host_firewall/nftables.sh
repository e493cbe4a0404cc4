# --- what is done with them
PATH=$PATH:/usr/sbin:/sbin
dir=/etc/skep/firewall
file=$dir/$name.nft
# A pattern, as nft does not mind if it fits nothing.
line="include \"$dir/$name*.nft\" # skep:$name"

# Prints the chains that filter and belong to the host's configuration: hook, family, table, chain.
places() {
	nft list chains | awk '
		$1 == "table" { family = $2; table = $3 }
		$1 == "chain" { chain = $2 }
		$1 == "type" && $2 == "filter" && $3 == "hook" {
			if (family != "ip" && family != "inet") next
			if (table == "firewalld" || table ~ /^skep/) next
			# iptables cannot read what nft writes into its chains.
			if (family == "ip" && table == "filter" && chain == toupper(chain)) next
			if ($4 == "input" || $4 == "output" || $4 == "forward") print $4, family, table, chain
		}'
}

# Prints what takes the rules away.
removal() {
	nft -a list ruleset | awk -v mark="comment \"skep:$name\"" '
		$1 == "table" { table = $2 " " $3 }
		$1 == "chain" { chain = $2 }
		index($0, mark) { print "delete rule " table " " chain " handle " $NF }'
	if nft list tables | grep -qx "table ip skep_$name"; then echo "delete table ip skep_$name"; fi
}

# Prints the host's configuration, which is loaded when it starts.
configuration() {
	for conf in /etc/nftables.conf /etc/sysconfig/nftables.conf; do
		if [ -f "$conf" ]; then
			readlink -f "$conf"
			return
		fi
	done
}

forget() {
	conf=$(configuration)
	if [ -n "$conf" ] && grep -q "# skep:$name+*\$" "$conf"; then
		# With a +, the line before had no end.
		glued=$(sed -n "s/.*# skep:$name\\(+*\\)\$/\\1/p" "$conf")
		sed -i "/# skep:$name+*\$/d" "$conf"
		if [ -n "$glued" ]; then truncate -s -1 "$conf"; fi
	fi
	rm -f "$file"
	rmdir "$dir" "${dir%/*}" 2>/dev/null || true
}

keep() {
	conf=$(configuration)
	if [ -z "$conf" ]; then
		echo "no configuration of nftables is loaded when this host starts, so these rules last until then" >&2
	elif [ -s "$conf" ] && [ -n "$(tail -c 1 "$conf")" ]; then
		printf '\n%s+\n' "$line" >>"$conf"
	else
		printf '%s\n' "$line" >>"$conf"
	fi
}

apply() {
	mkdir -p "$dir"
	chains=$(places)
	if [ -z "$chains" ]; then echo "no chain of nftables filters anything here" >&2; fi
	{
		own_table
		echo "$chains" | while read -r hook family table chain; do
			if [ -z "$(rules "$hook")" ]; then continue; fi
			# If it is taken out of the configuration one day, this makes an empty one, and no error.
			printf 'table %s %s {\n\tchain %s {\n\t}\n}\n' "$family" "$table" "$chain"
			rules "$hook" | while read -r rule; do echo "insert rule $family $table $chain $rule"; done
		done
	} >"$file.new"
	{
		removal
		cat "$file.new"
	} | nft -f -
	forget
	mkdir -p "$dir"
	mv "$file.new" "$file"
	keep
}

remove() {
	removal | nft -f -
	forget
}

look() {
	if nft list ruleset | grep -qF "comment \"skep:$name\""; then echo on; else echo off; fi
}
