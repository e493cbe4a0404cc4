#!/bin/busybox sh
# shellcheck shell=dash
# The engine listens on its unix socket only; the network reaches it through the service `tls`.
exec 2>&1
ulimit -n 1048576
ulimit -c 0
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# Arguments that the machine's user asked for, and that are more than a word.
# shellcheck source=/dev/null
[ ! -r /etc/skep/engine.conf ] || . /etc/skep/engine.conf
# As in boot2docker: the other arguments, and variables; commands for before the engine and after, once a boot; and
# certificates of registries. Where the engine listens is not for the profile to say: what has a network's port is
# the service `tls`, with the certificates that were delivered.
old=/var/lib/boot2docker
# shellcheck source=/dev/null
[ ! -r $old/profile ] || . $old/profile
[ ! -d $old/certs ] || export SSL_CERT_DIR=$old/certs
if [ ! -e /run/skep/booted ]; then
	: >/run/skep/booted
	[ ! -r $old/bootsync.sh ] || sh $old/bootsync.sh
	if [ -r $old/bootlocal.sh ]; then
		(
			until [ -S /run/docker.sock ]; do sleep 1; done
			exec sh $old/bootlocal.sh
		) &
	fi
fi
# By its path, as scripts look for the process with `pgrep -f $(which dockerd)`.
# shellcheck disable=SC2086 # several words
exec "$(command -v dockerd)" "$@" ${EXTRA_ARGS-} --host unix:///run/docker.sock --containerd /run/containerd/containerd.sock
