# Runs in a guest that nodes will be copies of; the probe image's archive is on its standard input.
# What a node will do is done once, so that its programs are in memory and its engine has run that
# code; then everything goes that copies may not share. Caches stay: they are the point.
set -e
address=192.0.2.2
# The engine listens before it answers; to ask it again and again would keep it from getting there.
until [ -S /run/docker.sock ]; do usleep 100000; done
docker load -q >/dev/null
ip address add $address/32 dev lo
docker swarm init --advertise-addr $address >/dev/null
docker service create -q -d --no-resolve-image --name warm --publish 8080:80 skep/probe:latest >/dev/null
until wget -q -O /dev/null -T 2 http://$address:8080/; do usleep 200000; done
# To leave also removes the containers of the swarm's tasks.
docker swarm leave --force >/dev/null
until [ -z "$(docker ps -aq)" ]; do usleep 200000; done
ip address del $address/32 dev lo

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
