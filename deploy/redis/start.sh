#!/bin/sh
# Becomes the Redis of redis.conf and users.acl, both in /etc/redis, its user's password taken from the environment:
# neither file can name a variable. REDISCLI_AUTH is also where redis-cli, for the healthcheck, looks for it.
set -eu
hash=$(printf %s "$REDISCLI_AUTH" | sha256sum | cut -d ' ' -f 1)
umask 077
sed "s/^user chatsystem on /&#$hash /" /etc/redis/users.acl > /tmp/users.acl
exec redis-server /etc/redis/redis.conf
