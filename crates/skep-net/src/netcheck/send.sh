# shellcheck shell=sh disable=SC2154
# Sends a packet of each kind to each of $peers.
PATH=$PATH:/usr/sbin:/sbin
connect() {
	said=$(timeout 4 bash -c "exec 3<>/dev/tcp/$1/$2" 2>&1) && code=0 || code=$?
	case $code.$said in
	0.*) answer=open ;;
	*refused*) answer=refused ;;
	*) answer=silent ;;
	esac
	echo "answer $1 tcp $2 $answer"
}

datagram() {
	bash -c "printf '%0${size}d' 0 >/dev/udp/$1/$2" 2>/dev/null || true
}

# The kernel makes an ESP packet of what goes to port 9, as it does of an encrypted overlay's.
esp() {
	own=$(ip -o route get "$1" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
	state="src $own dst $1 proto esp spi 0x736b6570"
	policy="src $own dst $1 proto udp dport 9 dir out"
	# shellcheck disable=SC2086 # The words are to be split.
	if ip xfrm state add $state mode transport enc cipher_null '' 2>/dev/null &&
		ip xfrm policy add $policy tmpl src "$own" dst "$1" proto esp mode transport 2>/dev/null; then
		datagram "$1" 9
	else
		echo "answer $1 esp 0 impossible"
	fi
	# shellcheck disable=SC2086
	ip xfrm policy delete $policy 2>/dev/null || true
	# shellcheck disable=SC2086
	ip xfrm state delete $state 2>/dev/null || true
}

for peer in $peers; do
	for port in $tcp; do connect "$peer" "$port" & done
	for port in $udp; do datagram "$peer" "$port" & done
	esp "$peer" &
done
wait
