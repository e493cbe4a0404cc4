# shellcheck shell=sh disable=SC2154,SC1091
# Counts what comes from the others, and from whom; $peers are their addresses.
PATH=$PATH:/usr/sbin:/sbin
dir=/run/skep-probe
if [ -e "$dir/end" ]; then sh "$dir/end" >/dev/null 2>&1 || true; fi
mkdir -p "$dir"

# Prints a rule for each kind of packet: of whom, and how it is told from what the swarm itself sends.
each() {
	for peer in $peers; do
		for port in $tcp; do "$1" "$peer" tcp "$port"; done
		for port in $udp; do "$1" "$peer" udp "$port"; done
		"$1" "$peer" esp 0
	done
}

nft_rule() {
	case $2 in
	tcp) match="tcp dport $3 tcp flags & (syn | ack) == syn" ;;
	udp) match="udp dport $3 udp length $((size + 8))" ;;
	esp) match='meta l4proto esp' ;;
	esac
	echo "ip $side $1 $match $trace counter comment \"$1 $2 $3\""
}

iptables_rule() {
	case $2 in
	tcp) match="-p tcp --dport $3 --syn" ;;
	udp) match="-p udp --dport $3 -m length --length $((size + 28))" ;;
	esp) match='-p esp' ;;
	esac
	echo "-A SKEP-PROBE-$chain $side $1 $match -m comment --comment \"$1 $2 $3\""
}

# Sends to a port here until the trace has it, or for three seconds.
cat >"$dir/traced" <<'END'
traced() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
		bash -c "echo x >/dev/udp/127.0.0.1/$1" 2>/dev/null || true
		if grep -q "udp dport $1 " /run/skep-probe/trace; then return; fi
		sleep 0.2
	done
}
END

with_nft() {
	. "$dir/traced"
	{
		echo 'table inet skep_probe {'
		side=saddr trace='meta nftrace set 1'
		echo 'chain arrived { type filter hook prerouting priority -450; policy accept;'
		each nft_rule
		trace=
		echo '}'
		echo 'chain passed { type filter hook input priority 450; policy accept;'
		each nft_rule
		side=daddr
		echo '}'
		echo 'chain left { type filter hook postrouting priority 450; policy accept;'
		each nft_rule
		echo '}'
		side=daddr trace='meta nftrace set 1'
		echo 'chain sent { type filter hook output priority -450; policy accept;'
		each nft_rule
		echo 'ip daddr 127.0.0.1 udp dport { 9, 10 } meta nftrace set 1'
		printf '}\n}\n'
	} | nft -f -
	cat >"$dir/end" <<'END'
nft list table inet skep_probe | awk '
	$1 == "chain" { chain = $2 }
	match($0, /counter packets [0-9]+/) {
		packets = substr($0, RSTART + 16, RLENGTH - 16)
		sub(/.*comment "/, ""); sub(/".*/, "")
		print "count", chain, packets, $0
	}'
nft delete table inet skep_probe
grep -e ' skep_probe arrived packet: ' -e ' skep_probe sent packet: ' -e '(verdict drop)' -e ' policy drop' \
	/run/skep-probe/trace || true
END
	setsid timeout 100 nft monitor trace >"$dir/trace" 2>/dev/null </dev/null &
	echo $! >"$dir/monitor"
	# Until the trace tells of a packet that never leaves here, it would miss others too.
	traced 9
}

with_iptables() {
	iptables-save -t filter -c >"$dir/before"
	{
		chain=arrived side=-s
		printf '*mangle\n:SKEP-PROBE-arrived - [0:0]\n:SKEP-PROBE-left - [0:0]\n'
		each iptables_rule
		chain=left side=-d
		each iptables_rule
		echo '-I PREROUTING -j SKEP-PROBE-arrived'
		echo '-A POSTROUTING -j SKEP-PROBE-left'
		echo COMMIT
		printf '*security\n:SKEP-PROBE-passed - [0:0]\n'
		chain=passed side=-s
		each iptables_rule
		echo '-A INPUT -j SKEP-PROBE-passed'
		echo COMMIT
	} | iptables-restore -w --noflush
	cat >"$dir/end" <<'END'
for table in mangle security; do
	iptables-save -t "$table" -c | sed -n 's/^\[\([0-9]*\):.*-A SKEP-PROBE-\([a-z]*\) .*--comment "\([^"]*\)".*/count \2 \1 \3/p'
done
iptables -w -t mangle -D PREROUTING -j SKEP-PROBE-arrived
iptables -w -t mangle -D POSTROUTING -j SKEP-PROBE-left
iptables -w -t security -D INPUT -j SKEP-PROBE-passed
for chain in 'mangle -F SKEP-PROBE-arrived' 'mangle -F SKEP-PROBE-left' 'security -F SKEP-PROBE-passed' \
	'mangle -X SKEP-PROBE-arrived' 'mangle -X SKEP-PROBE-left' 'security -X SKEP-PROBE-passed'; do
	iptables -w -t $chain
done
sed 's/^/before /' /run/skep-probe/before
iptables-save -t filter -c | sed 's/^/after /'
END
}

if command -v nft >/dev/null 2>&1; then
	with_nft
elif command -v iptables >/dev/null 2>&1; then
	with_iptables
else
	echo "there is neither nft nor iptables to count packets with" >&2
	exit 1
fi
# Should nobody come to collect, it goes by itself.
setsid sh -c "sleep 100; sh $dir/end; rm -rf $dir" >/dev/null 2>&1 </dev/null &
echo $! >"$dir/watch"
