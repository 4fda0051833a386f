#!/bin/sh
# Starts a state Redis that Sentinel may promote or demote (docker-compose.scale.yml). ANNOUNCE is its own host name. At the
# first start it is a replica of PRIMARY, or the primary without that variable. Later its role is in the file that Redis
# itself rewrites, and this script keeps it: one that was promoted must not start as a replica of the one before.
set -eu
conf=/data/scale.conf
if [ -s "$conf" ]; then
    role=$(grep '^replicaof ' "$conf" || true)
else
    role=${PRIMARY:+replicaof $PRIMARY 6379}
fi
umask 077
cat > "$conf.new" <<EOF
include /etc/redis/redis.conf
masteruser replica
masterauth "$(cat /run/secrets/REDIS_PASSWORD)"
replica-announce-ip $ANNOUNCE
$role
EOF
mv "$conf.new" "$conf"
exec /etc/redis/start.sh "$conf"
