#!/bin/busybox sh
# shellcheck shell=dash
# Mutual TLS in front of the engine's socket. The engine itself holds no key, so a copy of a running
# node gets keys of its own without a restart of the engine.
exec 2>&1
exec stunnel /etc/skep/stunnel.conf
