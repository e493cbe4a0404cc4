#!/bin/sh
# Runs a program in a root of its own: what programs need of the host, and some files and directories.
#   seclude.sh {ro|rw} PATH… -- PROGRAM ARGUMENT…
# It is run in namespaces of its own, with the rights that their maker has there.
set -e
here=$PWD
# Of the host this is hidden first; no ordinary user has files there.
root=/root
mount -t tmpfs -o mode=755 none "$root"
for it in /usr /bin /sbin /lib /lib32 /lib64 /nix /gnu; do
	if [ -L "$it" ]; then
		ln -s "$(readlink "$it")" "$root$it"
	elif [ -d "$it" ]; then
		mkdir "$root$it"
		mount --rbind "$it" "$root$it"
	fi
done
mkdir "$root/etc" "$root/dev"
if [ -d /etc/alternatives ]; then
	mkdir "$root/etc/alternatives"
	mount --rbind /etc/alternatives "$root/etc/alternatives"
fi
for it in /etc/ld.so.cache /dev/null /dev/zero /dev/random /dev/urandom /dev/kvm; do
	if [ -e "$it" ]; then
		: >"$root$it"
		mount --bind "$it" "$root$it"
	fi
done
mkdir -p "$root$here"
while [ "$1" != -- ]; do
	if [ -d "$2" ]; then
		mkdir -p "$root$2"
	else
		mkdir -p "$root$(dirname "$2")"
		: >"$root$2"
	fi
	mount --rbind "$2" "$root$2"
	if [ "$1" = ro ]; then
		mount -o remount,bind,ro "$root$2"
	fi
	shift 2
done
shift
# umount(8) of an ordinary user looks there for what is mounted, and who may.
: >"$root/etc/fstab"
mkdir "$root/proc" "$root/old"
mount --rbind /proc "$root/proc"
cd "$root"
pivot_root . old
cd "$here"
umount -l /old
umount -l /proc
rmdir /old /proc
# What it could write here is gone with it, and would look to it as if it had written it there.
mount -o remount,ro /
# What is left of these rights ends here.
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"
