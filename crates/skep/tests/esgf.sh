#!/usr/bin/env bash
# A swarm as scripts for docker-machine set it up, ESGF's among them, and a stack on it. Nothing here knows
# of skep: it calls docker-machine and docker, and curl in a browser's place.
#
#   esgf.sh DIRECTORY     for files of its own
set -euo pipefail
work=$1
name=my-node.skep-test.example

step() {
    printf '== %s (at %d s)\n' "$*" "$SECONDS"
}

# Runs a command until it succeeds.
patiently() {
    local deadline=$((SECONDS + 180))
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "not within 180 s: $*" >&2
            return 1
        fi
        sleep 1
    done
}

step two machines
for node in node0 node1; do
    docker-machine create --driver kvm --kvm-memory 2048 "$node" &
done
wait -n
wait -n
docker-machine ls
[ "$(docker-machine ls -q --filter state=Running | xargs)" = "node0 node1" ]
ip0=$(docker-machine ip node0)
ip1=$(docker-machine ip node1)

step a swarm
docker-machine ssh node0 "docker swarm init" --advertise-addr "$ip0"
token=$(docker-machine ssh node0 "docker swarm join-token -q worker")
docker-machine ssh node1 "docker swarm join --token $token $ip0:2377" --advertise-addr "$ip1"
docker-machine ssh node0 "docker node ls"

step an image
eval "$(docker-machine env node0)"
mkdir -p "$work/root/bin" "$work/root/tmp"
# shellcheck disable=SC2016 # for the shell there
docker-machine ssh node1 'cat $(command -v busybox)' >"$work/root/bin/busybox"
cat >"$work/root/bin/serve" <<'SERVE'
#!/bin/busybox sh
cd /data || exit
[ -e born ] || busybox date >born
busybox cat /site.conf /run/secrets/password >index.html
echo "on $NODE" >>index.html
exec busybox httpd -f -p 80 -h /data
SERVE
chmod 755 "$work/root/bin/busybox" "$work/root/bin/serve"
image=$(tar -C "$work/root" --owner=0 --group=0 -c . | docker import - esgf-web)
# shellcheck disable=SC2046 # these are several words
docker save esgf-web | docker $(docker-machine config node1 | tr -d '"') load

step a stack
docker node update --label-add esgf=data node1
docker node update --label-add esgf=index node0
echo "an ESGF node" >"$work/site.conf"
echo "a secret" >"$work/password"
cat >"$work/stack.yml" <<STACK
version: "3.7"
services:
  data:
    image: "$image"
    command: /bin/serve
    environment: ["NODE={{.Node.Hostname}}", "PATH=/bin"]
    ports: ["8080:80"]
    configs: [{source: site, target: /site.conf}]
    secrets: [password]
    volumes: ["data:/data"]
    networks: [esgf]
    deploy: {placement: {constraints: [node.labels.esgf == data]}}
  index:
    image: "$image"
    command: /bin/serve
    environment: ["NODE={{.Node.Hostname}}", "PATH=/bin"]
    ports: ["8081:80"]
    configs: [{source: site, target: /site.conf}]
    secrets: [password]
    volumes: ["index:/data"]
    networks: [esgf]
    deploy: {placement: {constraints: [node.labels.esgf == index]}}
networks: {esgf: {}}
configs: {site: {file: site.conf}}
secrets: {password: {file: password}}
volumes: {data: {}, index: {}}
STACK
docker stack deploy --resolve-image never --compose-file "$work/stack.yml" esgf

# Each is asked through the node that it does not run on.
fetch() {
    curl -sf --max-time 10 --resolve "$name:$1:$2" "http://$name:$1/" >"$work/page" || return 1
}
patiently fetch 8080 "$ip0"
cat "$work/page"
[ "$(cat "$work/page")" = $'an ESGF node\na secret\non node1' ]
patiently fetch 8081 "$ip1"
[ "$(tail -n 1 "$work/page")" = "on node0" ]
docker service ls
# shellcheck disable=SC2046
[ "$(docker $(docker-machine config node1 | tr -d '"') volume ls -q)" = esgf_data ]

step away with it
docker stack rm esgf
eval "$(docker-machine env -u)"
docker-machine rm -y node0 node1
[ -z "$(docker-machine ls -q)" ]
