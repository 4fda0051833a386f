"""Hosts that start at the same time on one database migrate it one after the other."""

from __future__ import annotations

import os
import subprocess
import sys

import MySQLdb
import pytest
from django.conf import settings

from tests.support import environment
from tests.support.product import eventually

#: Redis must not remember another test's database, or the new one would be older than that.
pytestmark = pytest.mark.usefixtures("state")


def migrate(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "migrate", "--no-input"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_hosts_that_start_at_once_on_a_new_database_all_find_it_migrated() -> None:
    url = environment.server.new_database("fresh")

    hosts = [migrate(url) for _ in range(3)]
    outputs = [host.communicate(timeout=300)[0] for host in hosts]

    assert [host.returncode for host in hosts] == [0, 0, 0], "\n".join(outputs)
    assert sum("Applying writelog.0001_initial... OK" in output for output in outputs) == 1
    assert environment.server.execute("SELECT count(*) FROM fresh.writelog_partition") == [(64,)]


def test_a_migration_waits_for_the_one_under_way_and_says_so_and_goes_on_when_that_host_is_gone() -> None:
    url = environment.server.new_database("fresh")
    other = MySQLdb.connect(unix_socket=str(environment.server.socket), user="root", database="fresh")
    other.query("SELECT GET_LOCK(CONCAT('migrate ', LEFT(SHA2(DATABASE(), 256), 32)), 0)")
    other.store_result()

    host = migrate(url)
    assert host.stdout is not None
    eventually(lambda: "waiting for it" in host.stdout.readline(), within=120)
    assert environment.server.execute("SHOW TABLES FROM fresh") == []
    other.close()

    assert host.wait(timeout=300) == 0
    host.stdout.close()
    assert ("writelog_partition",) in environment.server.execute("SHOW TABLES FROM fresh")
