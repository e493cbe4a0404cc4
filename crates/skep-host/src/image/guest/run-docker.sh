#!/bin/busybox sh
# shellcheck shell=dash
# The engine listens on its unix socket only; the network reaches it through the service `tls`.
exec 2>&1
ulimit -n 1048576
ulimit -c 0
# Variables and arguments that the machine's user asked for.
# shellcheck source=/dev/null
[ ! -r /etc/skep/engine.conf ] || . /etc/skep/engine.conf
exec dockerd "$@" --host unix:///run/docker.sock --containerd /run/containerd/containerd.sock
