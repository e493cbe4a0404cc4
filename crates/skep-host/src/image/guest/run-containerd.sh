#!/bin/busybox sh
# shellcheck shell=dash
exec 2>&1
# Containers outlive their supervisor's restart, so its own group is not theirs.
ulimit -n 1048576
# What containerd starts finds our runtime there, and that finds runc, in memory, for as long as containerd runs.
runc=$(command -v runc)
ln -sf /usr/lib/skep/runtime /run/skep/bin/runc
PATH=/run/skep/bin:$PATH
export PATH
exec /usr/lib/skep/sealed "$runc" /run/skep/runc containerd --log-level warn
