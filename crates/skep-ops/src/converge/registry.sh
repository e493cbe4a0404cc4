# Lets a node serve the cluster's registry of images, or trust it, or neither, and trust others. Every
# part can be done again; what was reached is written down last. The standard input has those others: for
# each a line with an equals sign before its name, and then its authority's certificates.
#   $1  what is wanted: `serve AT...`, `trust AT...`, or nothing
#   $2  the address and port of the cluster's own registry, or nothing
#   $3  the registry whose images are handed on at the next port, or nothing
#   $4  the certificate that engines trust
#   $5  what the engine's own file is to have, or nothing to leave it as it is
#   $6  for how many seconds the registry may take to answer
set -eu
wanted=$1 at=$2 upstream=$3 ca=$4 daemon=$5 limit=$6
state=/var/lib/skep/registry
export SVDIR=/etc/skep/sv
port=${at##*:}
mirror=
[ -z "$upstream" ] || mirror=${at%:*}:$((port + 1))

# Engines read these at every pull. Ours have a file that says so.
for mark in /etc/docker/certs.d/*/skep; do
	[ -e "$mark" ] || continue
	rm -r "${mark%/*}"
done
if [ -n "$at" ]; then
	for one in "$at" $mirror; do
		mkdir -p "/etc/docker/certs.d/$one"
		: >"/etc/docker/certs.d/$one/skep"
		cp "$ca" "/etc/docker/certs.d/$one/ca.crt"
	done
fi

other=
while IFS= read -r line; do
	case $line in
	=*)
		other=/etc/docker/certs.d/${line#=}
		mkdir -p "$other"
		# What a host's owner has put there stays.
		if [ -e "$other/ca.crt" ]; then
			other=
		else
			: >"$other/skep"
		fi
		;;
	*) [ -z "$other" ] || printf '%s\n' "$line" >>"$other/ca.crt" ;;
	esac
done

# $1 name, $2 port, $3 the registry whose images are handed on, if any.
serve() {
	dir=$SVDIR/$1
	mkdir -p "$dir/log" "/run/service/$1" "/run/service/$1.log" "/var/lib/skep-$1"
	chown docker-registry: "/var/lib/skep-$1"
	ln -sfn "/run/service/$1" "$dir/supervise"
	ln -sfn "/run/service/$1.log" "$dir/log/supervise"
	cp /etc/skep/sv/docker/log/run "$dir/log/run"
	{
		printf 'version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n'
		printf 'storage: {filesystem: {rootdirectory: /var/lib/skep-%s}, delete: {enabled: true}}\n' "$1"
		printf 'http: {addr: ":%s", tls: {certificate: /run/skep/%s/cert, key: /run/skep/%s/key}}\n' "$2" "$1" "$1"
		[ -z "$3" ] || printf 'proxy: {remoteurl: "%s"}\n' "$3"
	} >"$dir/config.yml"
	# It runs as nobody's root: the key is copied for its user, in memory, at each start. What it
	# hands on may be another registry of the cluster.
	cat >"$dir/run.new" <<-END
		#!/bin/busybox sh
		exec 2>&1
		mkdir -p /run/skep/$1
		chmod 700 /run/skep/$1
		cp /etc/docker/tls/server.pem /run/skep/$1/cert
		cp /etc/docker/tls/server-key.pem /run/skep/$1/key
		chown -R docker-registry: /run/skep/$1
		cat /etc/ssl/certs/ca-certificates.crt $ca >/run/skep/$1/trusted
		chmod 644 /run/skep/$1/trusted
		export SSL_CERT_FILE=/run/skep/$1/trusted OTEL_TRACES_EXPORTER=none
		exec chpst -u docker-registry docker-registry serve $dir/config.yml
	END
	chmod 755 "$dir/run.new"
	mv "$dir/run.new" "$dir/run"
	grep -q "runsv $dir\$" /etc/inittab || echo "::respawn:/usr/bin/runsv $dir" >>/etc/inittab
	kill -HUP 1
	# Another configuration may run, under a supervisor that was there before.
	sv -w 10 term "$1" >/dev/null 2>&1 || :
}
end() {
	dir=$SVDIR/$1
	[ -e "$dir" ] || return 0
	sed -i "\\|runsv $dir\$|d" /etc/inittab
	kill -HUP 1
	sv -w 10 force-shutdown "$1" >/dev/null 2>&1 || :
	rm -rf "$dir"
}
# $1 address and port. Fails with the service's last words.
await() {
	tried=0
	until printf 'GET /v2/ HTTP/1.0\r\n\r\n' | timeout 10 openssl s_client -quiet -verify_quiet \
		-verify_return_error -CAfile "$ca" -connect "$1" 2>/dev/null | grep -q '^HTTP/1.. 200'; do
		tried=$((tried + 1))
		if [ "$tried" -gt "$limit" ]; then
			echo "the registry at $1 does not answer within $limit s" >&2
			tail -n 2 "/var/log/$2/current" >&2 || :
			exit 1
		fi
		sleep 1
	done
}

case $wanted in
"serve "*)
	if ! command -v docker-registry >/dev/null; then
		echo "the node's image is of an older skep, and has no docker-registry" >&2
		exit 1
	fi
	serve registry "$port" ''
	if [ -n "$upstream" ]; then
		serve mirror "$((port + 1))" "$upstream"
	else
		end mirror
	fi
	await "$at" registry
	[ -z "$mirror" ] || await "$mirror" mirror
	;;
*)
	if [ -d "$SVDIR" ]; then
		end mirror
		end registry
	fi
	;;
esac

if [ -n "$daemon" ]; then
	printf '%s\n' "$daemon" >/etc/docker/daemon.json.new
	mv /etc/docker/daemon.json.new /etc/docker/daemon.json
	# The engine reads its mirrors and whom it does not verify anew, and goes on.
	sv hup docker >/dev/null
fi
# What is written down as done has to outlive a power cut.
sync -f /etc/docker
printf '%s' "$wanted" >"$state.new"
mv "$state.new" "$state"
