#!/bin/sh
# Runs redis-cli as the user of the product: cli.sh info persistence
set -eu
REDISCLI_AUTH=$(cat /run/secrets/REDIS_PASSWORD)
export REDISCLI_AUTH
exec redis-cli --user chatsystem "$@"
