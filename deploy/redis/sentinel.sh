#!/bin/sh
# Starts a Sentinel (docker-compose.scale.yml). ANNOUNCE is its own host name, PRIMARY the first primary. Sentinel rewrites
# the file with what it learns, so the file is written once.
set -eu
conf=/data/sentinel.conf
umask 077
[ -s "$conf" ] || cat > "$conf" <<EOF
dir /tmp
# Without a password of its own: only the application's containers are on this network.
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $ANNOUNCE
sentinel monitor state $PRIMARY 6379 2
sentinel auth-user state sentinel
sentinel auth-pass state "$(cat /run/secrets/REDIS_PASSWORD)"
sentinel down-after-milliseconds state 3000
sentinel failover-timeout state 10000
EOF
exec redis-server "$conf" --sentinel
