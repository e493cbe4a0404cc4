#!/bin/busybox sh
# shellcheck shell=dash
# shutdown, poweroff, halt and reboot: busybox init is told what is wanted.
case "${0##*/}" in
reboot) exec busybox reboot ;;
shutdown)
	for word in "$@"; do
		[ "$word" != -r ] || exec busybox reboot
	done
	;;
esac
exec busybox poweroff
