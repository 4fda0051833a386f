#!/bin/sh
# Makes the secrets of docker-compose.yml at the first start, and keeps them: make.sh FOLDER
# FOLDER has one file per secret. The folders in it are volumes of the other services, so that each service can read only
# what it needs. A variable such as REDIS_PASSWORD replaces the kept secret. The …_URL variables are templates.
set -eu
cd "$1"

write() {
    # The rename keeps a start that is killed half-way from leaving half a secret.
    printf '%s\n' "$2" > "$1.new"
    mv "$1.new" "$1"
}

umask 077
for name in SECRET_KEY MYSQL_PASSWORD MYSQL_ROOT_PASSWORD REDIS_PASSWORD ELASTIC_PASSWORD; do
    eval "given=\${$name-}"
    case $name:$given in
        SECRET_KEY:*) ;;
        *:*[!A-Za-z0-9]*)
            echo "make.sh: $name may contain only letters and digits, because it becomes a part of a URL." >&2
            exit 1
            ;;
    esac
    if [ -n "$given" ]; then
        write "$name" "$given"
    elif [ ! -s "$name" ]; then
        write "$name" "$(head -c 32 /dev/urandom | od -A n -v -t x1 | tr -d ' \n')"
    fi
done
sync

# Readable for all users of the containers that mount the folder: each image has a user of its own.
umask 022
mkdir -p app mysql redis elasticsearch
write app/SECRET_KEY "$(cat SECRET_KEY)"
for name in DATABASE_URL REDIS_URL CACHE_URL CELERY_BROKER_URL ELASTICSEARCH_URL; do
    eval "template=\$$name"
    for secret in MYSQL_PASSWORD REDIS_PASSWORD ELASTIC_PASSWORD; do
        template=$(printf %s "$template" | sed "s/{$secret}/$(cat $secret)/g")
    done
    write "app/$name" "$template"
done
for name in MYSQL_PASSWORD MYSQL_ROOT_PASSWORD; do
    write "mysql/$name" "$(cat $name)"
done
write redis/REDIS_PASSWORD "$(cat REDIS_PASSWORD)"
write elasticsearch/ELASTIC_PASSWORD "$(cat ELASTIC_PASSWORD)"
