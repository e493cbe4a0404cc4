#!/bin/busybox sh
# shellcheck shell=dash
exec 2>&1
exec /usr/sbin/sshd -D -e
