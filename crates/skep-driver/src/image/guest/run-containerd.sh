#!/bin/busybox sh
# shellcheck shell=dash
exec 2>&1
# Containers outlive their supervisor's restart, so its own group is not theirs.
ulimit -n 1048576
# Emulated only: what containerd starts finds our runtime there, and that finds runc, in memory, for as long as
# containerd runs. Under KVM these programs are nowhere, and containerd finds the package's runc.
emulated=/run/skep/emulated
if [ -x $emulated/sealed ]; then
	runc=$(command -v runc)
	mkdir -p /run/skep/bin
	ln -sf $emulated/runtime /run/skep/bin/runc
	PATH=/run/skep/bin:$PATH
	export PATH
	exec $emulated/sealed "$runc" /run/skep/runc containerd --log-level warn
fi
exec containerd --log-level warn
