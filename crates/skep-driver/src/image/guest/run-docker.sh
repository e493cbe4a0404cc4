#!/bin/busybox sh
# shellcheck shell=dash
# The engine listens on its unix socket only; the network reaches it through the service `tls`.
exec 2>&1
ulimit -n 1048576
ulimit -c 0
# Variables and arguments that the machine's user asked for.
# shellcheck source=/dev/null
[ ! -r /etc/skep/engine.conf ] || . /etc/skep/engine.conf
# What scripts written for boot2docker leave there: arguments and variables, commands for before the engine
# and after, once a boot, and certificates of registries.
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
# shellcheck disable=SC2086 # several words
exec dockerd "$@" ${EXTRA_ARGS-} --host unix:///run/docker.sock --containerd /run/containerd/containerd.sock
