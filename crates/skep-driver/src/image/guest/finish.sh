#!/bin/sh
# Makes a node of a fresh Debian tree.
#   finish.sh TREE FILES OUT: TREE is changed, FILES has the files beside this script,
#   OUT gets what is used outside the guest.
set -eu
tree=$1 files=$2 out=$3
kernel=$(ls "$tree/lib/modules")

# The account of docker-machine's machines: keys only, sudo without password.
chroot "$tree" useradd -m -u 1000 -g docker -G sudo,staff -s /bin/bash -p '*' docker
install -d -m 700 -o 1000 -g "$(chroot "$tree" id -g docker)" "$tree/home/docker/.ssh"
printf 'docker ALL=(ALL:ALL) NOPASSWD: ALL\n' >"$tree/etc/sudoers.d/docker"
chmod 440 "$tree/etc/sudoers.d/docker"

install -d "$tree/usr/lib/skep" "$tree/etc/skep/sv" "$tree/var/lib/skep"
install -d -m 700 "$tree/etc/docker/tls"
install -m 755 "$files/setup.sh" "$tree/usr/lib/skep/setup"
install -m 755 "$files/shutdown.sh" "$tree/usr/lib/skep/shutdown"
for program in identity clock ask; do
	install -m 755 "$files/$program" "$tree/usr/lib/skep/"
done
install -m 755 "$files/power.sh" "$tree/usr/lib/skep/power"
for name in poweroff halt reboot shutdown; do
	ln -sf /usr/lib/skep/power "$tree/usr/sbin/$name"
done
ln -sf /bin/busybox "$tree/usr/sbin/init"
install -m 644 "$files/inittab" "$tree/etc/inittab"
for service in agent clock containerd docker sshd tls; do
	install -d "$tree/etc/skep/sv/$service/log"
	install -m 755 "$files/run-$service.sh" "$tree/etc/skep/sv/$service/run"
	install -m 755 "$files/run-log.sh" "$tree/etc/skep/sv/$service/log/run"
	# What a supervisor keeps of its service does not outlive a boot.
	ln -s "/run/service/$service" "$tree/etc/skep/sv/$service/supervise"
	ln -s "/run/service/$service.log" "$tree/etc/skep/sv/$service/log/supervise"
done
install -m 644 "$files/stunnel.conf" "$tree/etc/skep/stunnel.conf"
install -m 644 "$files/sshd_config" "$tree/etc/ssh/sshd_config"
install -m 644 "$files/containerd.toml" "$tree/etc/containerd/config.toml"
install -m 644 "$files/daemon.json" "$tree/etc/docker/daemon.json"
install -m 755 "$files/init.d-docker.sh" "$tree/etc/init.d/docker"
# Where scripts written for boot2docker look, and leave what the service `docker` reads.
install -d "$tree/var/lib/boot2docker/etc" "$tree/var/lib/boot2docker/log"
ln -s /etc/docker /etc/hostname "$tree/var/lib/boot2docker/etc/"
ln -s /etc/ssh "$tree/var/lib/boot2docker/ssh"
ln -s /var/log/docker/current "$tree/var/lib/boot2docker/log/docker.log"
install -m 644 "$files/profile" "$tree/usr/lib/skep/profile"
install -m 644 "$files/profile" "$tree/var/lib/boot2docker/profile"
ln -s /usr/bin/docker /usr/sbin/dockerd "$tree/usr/local/bin/"
# The data disk of those machines; what is on it is mounted there at each boot.
install -d -o 1000 "$tree/mnt/sda1"
install -d "$tree/mnt/sda1/var/lib/docker" "$tree/mnt/sda1/var/lib/boot2docker"
printf 'export SVDIR=/etc/skep/sv\n' >"$tree/etc/profile.d/skep.sh"

# What has to differ between nodes is made by each of them.
: >"$tree/etc/machine-id"
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/var/lib/dbus/machine-id"
printf 'node\n' >"$tree/etc/hostname"
: >"$tree/etc/resolv.conf"
printf '127.0.0.1 localhost\n127.0.1.1 node\n# Lines below this one are kept.\n' >"$tree/etc/hosts"
# Stacks mount these, as most hosts have them.
[ -L "$tree/etc/localtime" ] || ln -s /usr/share/zoneinfo/Etc/UTC "$tree/etc/localtime"
[ -e "$tree/etc/timezone" ] || printf 'Etc/UTC\n' >"$tree/etc/timezone"

# Commands that only busybox has here. A link of Debian's alternatives leads nowhere from outside
# the tree, and counts all the same.
chroot "$tree" busybox --list | while read -r applet; do
	for command in "$tree/usr/bin/$applet" "$tree/usr/sbin/$applet"; do
		if [ -e "$command" ] || [ -L "$command" ]; then continue 2; fi
	done
	ln -s /bin/busybox "$tree/usr/bin/$applet"
done

# shellcheck disable=SC2016 # The fields are dpkg's.
chroot "$tree" dpkg-query -W -f '${Package} ${Version}\n' >"$out/packages"
cp "$tree/boot/vmlinuz-$kernel" "$out/kernel"
cp "$tree/usr/bin/busybox" "$out/busybox"
cp "$tree/usr/bin/docker" "$out/docker"

# The initial RAM disk: busybox, modules, and programs for emulated guests.
initrd=$out/initrd.tree
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/root" "$initrd/modules" "$initrd/emulated"
cp "$out/busybox" "$initrd/bin/busybox"
install -m 755 "$files/initrd-init.sh" "$initrd/init"
# Programs that only an emulated guest uses. They are not on the disk, so that under KVM a node has no trace of them.
install -m 755 "$files/sealed" "$files/runtime" "$initrd/emulated/"
# The modules between the kernel and the root disk, each after those that it needs. Suites differ in what their kernel has
# built in, which is not listed as a file here, and in how they pack modules.
for name in virtio_pci virtio_blk ext4; do
	chroot "$tree" modprobe --show-depends --set-version "$kernel" "$name"
done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' | {
	count=10
	while read -r module; do
		base=${module##*/}
		case $module in
		*.xz) xz -dc "$tree$module" ;;
		*) cat "$tree$module" ;;
		esac >"$initrd/modules/$count-${base%%.*}.ko"
		count=$((count + 1))
	done
}
(cd "$initrd" && find . | LC_ALL=C sort | "$out/busybox" cpio -o -H newc >"$out/initrd" 2>/dev/null)
rm -rf "$initrd"

rm -f "$tree/etc/apt/sources.list.d/skep.list"
rm -rf "${tree:?}/boot"/* "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/var/log/* \
	"$tree/var/lib/dpkg"/*-old "$tree/usr/share/doc" "$tree/usr/share/man"
install -d -m 750 "$tree/var/log/audit"
