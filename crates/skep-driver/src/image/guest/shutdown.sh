#!/bin/busybox sh
# shellcheck shell=dash
# Ends a node in order: the engine first, so that containers get their time to stop; then the rest.
# How long that may take at most is `driver::qemu::power::SHUTDOWN`, which the host waits for.
# The supervisors are told to stay down, because init ends them only after this script.
export SVDIR=/etc/skep/sv
sv -w 45 force-stop docker >/dev/null 2>&1
sv -w 5 force-stop tls sshd containerd >/dev/null 2>&1
sync
