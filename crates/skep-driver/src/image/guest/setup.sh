#!/bin/busybox sh
# shellcheck shell=dash
# Sets a node up at every boot. The emulator may run this twenty times slower than a processor
# would, so it starts few programs.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
# Emulated, the initial RAM disk has mounted it and left programs there.
[ -d /run/skep/emulated ] || mount -t tmpfs -o mode=755,nosuid,nodev run /run
# On the disk, as what is copied there may be larger than the memory; each boot begins with an empty one.
rm -rf /tmp/* /tmp/.[!.]*
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd does: containers may ask that what is mounted on either side is seen on the other (rslave, rshared).
mount --make-rshared /
mkdir -p /run/lock /run/sshd /run/docker /run/service /run/skep
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr

# What the host says of this machine, on the kernel's command line.
hostname='' address='' gateway='' dns='' mtu='' emulated=''
read -r command_line </proc/cmdline
for word in $command_line; do
	case "$word" in
	skep.hostname=*) hostname=${word#*=} ;;
	skep.address=*) address=${word#*=} ;;
	skep.gateway=*) gateway=${word#*=} ;;
	skep.dns=*) dns=${word#*=} ;;
	skep.mtu=*) mtu=${word#*=} ;;
	skep.emulated) emulated=1 ;;
	esac
done

# The kernel lets a program run for 0.7 ms, or until another one wakes up. Emulated, that is little, and what the
# emulator knows of a program's memory is lost at each change.
if [ -n "$emulated" ] && mount -t debugfs debug /sys/kernel/debug; then
	scheduler=/sys/kernel/debug/sched
	[ ! -w $scheduler/base_slice_ns ] || echo 10000000 >$scheduler/base_slice_ns
	[ ! -w $scheduler/features ] || echo NO_WAKEUP_PREEMPTION >$scheduler/features
	umount /sys/kernel/debug
fi

# What the engine, the swarm's overlay networks and its routing mesh need of the kernel.
modprobe -a virtio_net virtio_console virtio_rng overlay bridge br_netfilter veth vxlan nf_conntrack nf_nat \
	nf_tables nft_compat nft_chain_nat xt_conntrack xt_MASQUERADE xt_addrtype xt_nat xt_mark \
	xt_ipvs ip_vs ip_vs_rr iptable_nat iptable_filter 2>/dev/null

# Under KVM the service `clock` asks the host for the time through it.
[ -n "$emulated" ] || modprobe -q ptp_kvm

if [ -n "$hostname" ]; then
	echo "$hostname" >/etc/hostname
fi
read -r hostname </etc/hostname
hostname "$hostname"
ip link set lo up
# The one interface that is a device. Machines of some drivers of docker-machine have their address on eth1.
link=eth0
[ ! -s /var/lib/skep/link ] || read -r link </var/lib/skep/link
for device in /sys/class/net/*/device; do
	found=${device%/device}
	found=${found##*/}
	[ ! -e "$device" ] || [ "$found" = "$link" ] || ip link set "$found" name "$link"
done
own_address=${address%/*}
# The program `identity` writes the same.
marker='# Lines below this one are kept.' kept='' below=''
while IFS= read -r line; do
	[ -z "$below" ] || kept="$kept$line
"
	[ "$line" != "$marker" ] || below=1
done </etc/hosts
printf '127.0.0.1 localhost\n%s %s\n%s\n%s' "${own_address:-127.0.1.1}" "$hostname" "$marker" "$kept" >/etc/hosts
if [ -n "$address" ]; then
	echo 1 >"/proc/sys/net/ipv6/conf/$link/disable_ipv6" 2>/dev/null
	ip link set "$link" ${mtu:+mtu "$mtu"} up
	ip address add "$address" brd + dev "$link"
	[ -z "$gateway" ] || ip route add default via "$gateway"
fi
if [ -n "$dns" ]; then
	IFS=,
	for server in $dns; do
		echo "nameserver $server"
	done >/etc/resolv.conf
	unset IFS
fi
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1048576 >/proc/sys/fs/inotify/max_user_watches

# What users have changed since the image was made counts at each boot.
for file in /etc/sysctl.d/*.conf /etc/sysctl.conf; do
	[ ! "$file" -nt /usr/lib/skep/setup ] || sysctl -q -p "$file"
done
# A file system of the network that does not answer must not hold up the boot.
[ ! /etc/fstab -nt /usr/lib/skep/setup ] || timeout 60 mount -a

# Each node is itself: an empty file in the image, a number of its own from the first boot on.
if [ ! -s /etc/machine-id ]; then
	read -r uuid </proc/sys/kernel/random/uuid
	echo "$uuid" | tr -d - >/etc/machine-id
fi

# The disk may have grown since the file system was made.
read -r sectors </sys/class/block/vda/size
grown=0
[ ! -r /var/lib/skep/disk-sectors ] || read -r grown </var/lib/skep/disk-sectors
if [ "$sectors" != "$grown" ] && resize2fs /dev/vda >/dev/null 2>&1; then
	echo "$sectors" >/var/lib/skep/disk-sectors
fi

# The host's channel to the agent. There is no udev to make links of names.
for port in /sys/class/virtio-ports/*; do
	read -r name <"$port/name"
	if [ "$name" = org.qemu.guest_agent.0 ]; then
		ln -sf "/dev/${port##*/}" /run/skep/agent-port
	fi
done

# Where scripts written for boot2docker find the data disk.
for name in docker boot2docker; do
	mkdir -p "/var/lib/$name" "/mnt/sda1/var/lib/$name"
	mount --bind "/var/lib/$name" "/mnt/sda1/var/lib/$name"
	mount --make-private "/mnt/sda1/var/lib/$name"
done

# Certificates that such scripts leave there are every program's. The bundle begins anew, as other scripts add theirs
# to it at each boot.
old=/var/lib/boot2docker bundle=/etc/ssl/certs/ca-certificates.crt
changes=
for file in "$old"/bootlocal.sh "$old"/bootsync.sh "$old"/certs/*.pem "$old"/certs/*.crt /var/lib/skep/bundle; do
	[ ! -s "$file" ] || changes=1
done
if [ -n "$changes" ]; then
	echo made >/var/lib/skep/bundle
	# Not cat(1): a file may lack its last end of line.
	grep -hs '' /etc/ssl/certs/*.pem $old/certs/*.pem $old/certs/*.crt >$bundle.new
	mv $bundle.new $bundle
fi

echo "skep: $hostname has ${address:-no address}, and $sectors sectors of disk; services start" >/dev/console

# These services wait for what only the host can give a node: its keys, and the right time.
for pair in sshd:/etc/ssh/ssh_host_ed25519_key tls:/etc/docker/tls/server-key.pem \
	clock:/etc/docker/tls/server-key.pem; do
	if [ -s "${pair#*:}" ]; then
		rm -f "/etc/skep/sv/${pair%%:*}/down"
	else
		: >"/etc/skep/sv/${pair%%:*}/down"
	fi
done
