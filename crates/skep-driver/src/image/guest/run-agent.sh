#!/bin/busybox sh
# shellcheck shell=dash
# The host's way in. The port stays open, so that a host that reconnects loses no byte.
exec 2>&1
exec qemu-ga --method=virtio-serial --path=/run/skep/agent-port --statedir=/run/skep \
	--pidfile=/run/skep/agent.pid
