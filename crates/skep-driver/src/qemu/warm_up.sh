# Runs in a guest that nodes will be copies of; the probe image's archive is on its standard input.
# What a node will do is done once, so that its programs are in memory and its engine has run that
# code; then everything goes that copies may not share. Caches stay: they are the point.
set -e
address=192.0.2.2
keys=/etc/docker/tls

# What a host gives its nodes, with keys that nobody keeps: the programs that use them are to be warm, too.
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key </dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=warm \
	-addext subjectAltName=IP:$address -keyout $keys/server-key.pem -out $keys/server.pem </dev/null 2>/dev/null
cp $keys/server.pem $keys/ca.pem
/usr/lib/skep/identity <<-end
	seed 00
	hostname warm
	address $address/24
	gateway 192.0.2.1
	digest warm
	service tls
	service sshd
	service clock
end

# The engine listens before it answers; to ask it again and again would keep it from getting there.
until [ -S /run/docker.sock ]; do usleep 100000; done
docker load -q >/dev/null
outside() {
	docker -H tcp://$address:2376 --tlsverify --tlscacert $keys/ca.pem --tlscert $keys/server.pem \
		--tlskey $keys/server-key.pem "$@" >/dev/null
}
until outside info 2>/dev/null; do usleep 200000; done
docker swarm init --advertise-addr $address >/dev/null
outside node ls
docker service create -q -d --no-resolve-image --name warm --publish 8080:80 skep/probe:latest >/dev/null
# Not the wget of busybox: that of bookworm, which is linked statically, may crash when it looks up which port http has.
until curl -s -o /dev/null -m 2 http://$address:8080/; do usleep 200000; done
# To leave also removes the containers of the swarm's tasks.
docker swarm leave --force >/dev/null
until [ -z "$(docker ps -aq)" ]; do usleep 200000; done

for service in tls sshd clock; do
	sv -w 60 down /etc/skep/sv/$service >/dev/null
	: >/etc/skep/sv/$service/down
done
rm -f $keys/* /etc/ssh/ssh_host_* /var/lib/skep/delivery
ip link set eth0 down
ip address flush dev eth0

rm -f /var/lib/docker/engine-id /etc/docker/key.json
rm -f /var/lib/containerd/io.containerd.grpc.v1.introspection/uuid
: >/etc/machine-id
for log in /var/log/*/current; do : >"$log"; done
sync

# Frozen at rest: what a guest is busy with, each of its copies would be busy with. In a second of
# which 95 in 100 parts are idle, there is nothing left to do.
busy=1 tries=0
while [ $busy = 1 ] && [ $tries -lt 120 ]; do
	read -r _ user nice system idle rest </proc/stat
	sleep 1
	read -r _ user2 nice2 system2 idle2 rest </proc/stat
	worked=$((user2 + nice2 + system2 - user - nice - system))
	[ $((worked * 19)) -ge $((idle2 - idle)) ] || busy=0
	tries=$((tries + 1))
done
sync
