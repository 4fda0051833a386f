#!/bin/sh
# Makes `mysql-replica` follow `mysql`, once (docker-compose.scale.yml).
set -eu
MYSQL_PWD=$(cat /run/secrets/MYSQL_ROOT_PASSWORD)
export MYSQL_PWD
# MySQL accepts at most 32 characters for a source's password.
password=$(cut -c 1-32 /run/secrets/MYSQL_PASSWORD)
mysql --host mysql --user root --execute "
    CREATE USER IF NOT EXISTS replica@'%' IDENTIFIED BY '$password' REQUIRE NONE;
    GRANT REPLICATION SLAVE ON *.* TO replica@'%'"
# A replica that follows already, or that was promoted: its data is newer than that of `mysql`, and would be lost.
used=$(mysql --host mysql-replica --user root --skip-column-names --execute "
    SELECT (SELECT COUNT(*) FROM performance_schema.replication_connection_configuration WHERE HOST = 'mysql')
        + (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'chatsystem')")
[ "$used" = 0 ] || exit 0
mysql --host mysql-replica --user root --execute "
    RESET BINARY LOGS AND GTIDS;
    CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'mysql', SOURCE_USER = 'replica', SOURCE_PASSWORD = '$password',
        SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;
    START REPLICA;
    SET PERSIST super_read_only = ON"
