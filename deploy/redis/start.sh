#!/bin/sh
# Starts Redis with a configuration and the users of /etc/redis: start.sh [FILE]. Neither can refer to a file or a variable,
# so this script adds the users' password, which is in /run/secrets/REDIS_PASSWORD.
set -eu
password=$(cat /run/secrets/REDIS_PASSWORD)
hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
umask 077
sed "s/^user [a-z]* on /&#$hash /" /etc/redis/*.acl > /tmp/users.acl
exec redis-server "${1:-/etc/redis/redis.conf}"
