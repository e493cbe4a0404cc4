#!/bin/busybox sh
# shellcheck shell=dash
# The initial RAM disk: reaches the root disk and hands over. Modules lie in load order.
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
read -r command_line </proc/cmdline
case " $command_line " in
*" skep.probe "*)
	# A host asks whether guests run under its hypervisor. Nothing else matters to it.
	echo SKEP-PROBE-OK >/dev/ttyS0
	busybox poweroff -f
	;;
esac
for module in /modules/*; do
	busybox insmod "$module"
done
# Inode tables of a grown file system stay as they are (noinit_itable): zeroing them in the
# background would fill the host's disk for nothing.
# The disk appears as soon as its driver is there; its uevent is not worth a daemon.
tries=0
while [ ! -b /dev/vda ] && [ "$tries" -lt 500 ]; do
	busybox usleep 10000
	tries=$((tries + 1))
done
if ! busybox mount -t ext4 -o rw,noatime,discard,noinit_itable /dev/vda /root; then
	echo "skep: the root disk cannot be mounted" >/dev/ttyS0
	busybox poweroff -f
fi
case " $command_line " in
*" skep.emulated "*)
	# Programs that save an emulator work go to memory: the disk has none of them.
	busybox mount -t tmpfs -o mode=755,nosuid,nodev run /root/run
	busybox mkdir -p /root/run/skep/emulated
	busybox cp /emulated/* /root/run/skep/emulated/
	;;
esac
busybox mount -o move /dev /root/dev
busybox mount -o move /proc /root/proc
exec busybox switch_root /root /sbin/init
