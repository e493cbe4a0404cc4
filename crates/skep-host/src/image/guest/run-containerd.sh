#!/bin/busybox sh
# shellcheck shell=dash
exec 2>&1
# Containers outlive their supervisor's restart, so its own group is not theirs.
ulimit -n 1048576
exec containerd --log-level warn
