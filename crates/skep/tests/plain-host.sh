#!/usr/bin/env bash
# Makes the root disk of a plain Debian host: systemd, an ssh server, a firewall that is on, no engine. It boots with the kernel
# and RAM disk of an image of skep's, whose modules it gets. Its packages come from a repository of its own, with an
# engine in it: all of Debian's are read for a minute under emulation.
#   plain-host.sh DISK IMAGE ADDRESS/PREFIX GATEWAY DNS PUBLIC_KEY
set -euo pipefail
disk=$1 image=$2 address=$3 gateway=$4 dns=$5 key=$6
tree=$(mktemp -d "${disk%/*}/tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT
export TMPDIR=${disk%/*}
# shellcheck disable=SC2016 # for the hook's own shell
mmdebstrap --quiet --variant=essential --mode=root --format=directory \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --include=apt,ca-certificates,dbus,iproute2,kmod,netbase,nftables,openssh-server,procps,sudo,systemd-sysv \
    --customize-hook='rm -f "$1"/var/cache/apt/archives/*.deb; APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q -y --no-install-recommends --download-only install docker.io docker-cli iptables >/dev/null &&
        mkdir "$1/srv/packages" && mv "$1"/var/cache/apt/archives/*.deb "$1/srv/packages"' \
    trixie "$tree"
(
    cd "$tree/srv/packages"
    for file in *.deb; do
        dpkg-deb -f "$file"
        printf 'Filename: ./%s\nSize: %s\n' "$file" "$(stat -c %s "$file")"
        printf 'SHA256: %s\n\n' "$(sha256sum <"$file" | cut -d ' ' -f 1)"
    done >Packages
)
rm -f "$tree"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/packages ./' >"$tree/etc/apt/sources.list"
debugfs -R "rdump /usr/lib/modules $tree/usr/lib" "$image/root.img" 2>/dev/null

echo plain >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 plain\n' >"$tree/etc/hosts"
printf 'nameserver %s\n' "$dns" >"$tree/etc/resolv.conf"
echo '/dev/vda / ext4 defaults 0 0' >"$tree/etc/fstab"
echo virtio_net >"$tree/etc/modules-load.d/virtio.conf"
# There is no udev, without which systemd's own network service waits for ever.
cat >"$tree/etc/systemd/system/address.service" <<UNIT
[Unit]
DefaultDependencies=no
After=systemd-modules-load.service
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=modprobe virtio_net
ExecStart=ip link set eth0 up
ExecStart=ip address add $address dev eth0
ExecStart=ip route add default via $gateway
[Install]
WantedBy=sysinit.target
UNIT
# Nobody but an admin is let in.
cat >"$tree/etc/nftables.conf" <<'RULES'
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif lo accept
		ct state established,related accept
		tcp dport 22 accept
	}
}
RULES
for unit in address nftables ssh; do
    systemctl --root="$tree" enable "$unit.service" >/dev/null 2>&1
done
systemctl --root="$tree" mask serial-getty@ttyS0.service >/dev/null 2>&1
# An admin who is not root, and becomes it without a password.
chroot "$tree" useradd --create-home --shell /bin/bash admin
install -d -m 700 -o 1000 -g 1000 "$tree/home/admin/.ssh"
install -m 600 -o 1000 -g 1000 "$key" "$tree/home/admin/.ssh/authorized_keys"
echo 'admin ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/admin"
rm -f "$tree/var/lib/apt/lists/"*_*
mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$tree" "$disk" 6G
