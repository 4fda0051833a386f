"""Settings: each is documented, an empty one counts as unset, and a wrong one is refused in one sentence."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import ANY as ANYTHING

import pytest
from django.conf import settings
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from chatsystem.celery import app
from chatsystem.conf import addresses, database
from chatsystem.conf.environment import SECRETS
from chatsystem.conf.startup import StartupError
from chatsystem.embedded.options import Options
from tests.deploy.known_settings import KNOWN

READ = re.compile(
    r"""(?:env\.\w+|environ\.get|environ|given|redis_url|elasticsearch_url|host_names|origins)[(\[]\s*"([A-Z_]+)\""""
)
#: Variables that processes of `make run` pass to each other.
INTERNAL = {"OWN_REDIS", "PYTHON_NAME", "PATH", "PYTHONPATH", "LAUNCHED_BY", "DJANGO_SETTINGS_MODULE"}

#: The variables that name a secret's file.
FILES = {f"{name}_FILE" for name in SECRETS}

BASE_DIR = settings.BASE_DIR


def variables() -> set[str]:
    """Returns all variables that the code reads."""
    code = BASE_DIR / "chatsystem"
    files = ("settings.py", "conf/data_dir.py", "server/gunicorn.py", "logs/config.py")
    rooms = [*(code / name for name in files), *(code / "embedded").glob("*.py")]
    read = {name for file in rooms for name in READ.findall(file.read_text())} - INTERNAL
    return read | FILES


def test_each_variable_that_the_code_reads_is_documented_and_no_other() -> None:
    assert variables() == KNOWN


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Any]:
    """Returns everything that depends on the environment, read again as at the start of a process."""
    for name in variables() - {"DATA_DIR"}:
        monkeypatch.delenv(name, raising=False)
    if not environment.get("SECRET_KEY_FILE", "").strip():
        # Otherwise each read makes a new one.
        monkeypatch.setenv("SECRET_KEY", "s" * 50)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = {"options": Options.from_environ()}
    for module in ("settings.py", "server/gunicorn.py"):
        found = runpy.run_path(str(BASE_DIR / "chatsystem" / module))
        made |= {name: found[name] for name in found if name.isupper() or name == "workers"}
    made.pop("CELERY_BEAT_SCHEDULE")  # its entries are equal to nothing
    return made


#: Variables for which any text is valid, or that would move the tests' own data.
ANY = {"ADMIN_API_KEY", "BIND", "SECRET_KEY", "STATIC_ROOT"}

#: Invalid values. Each is refused.
WRONG = [
    ("ALLOWED_HOSTS", "https://chat.example.com"),
    ("ALLOWED_HOSTS", "chat.example.com:443"),
    ("ALLOWED_HOSTS", "localhost, chat example"),
    ("CACHE_URL", "memcached://host"),
    ("CELERY_BROKER_URL", "amqp://host"),
    ("CORS_ORIGINS", "*"),
    ("CORS_ORIGINS", "null"),
    ("CORS_ORIGINS", "app.example.com"),
    ("CORS_ORIGINS", "https://*.example.com"),
    ("CORS_ORIGINS", "https://app.example.com/chat"),
    ("CORS_ORIGINS", "https://app.example.com, *"),
    ("CORS_ORIGINS", "https://münchen.example"),
    ("CORS_ORIGINS", "https://user@app.example.com"),
    ("CSRF_TRUSTED_ORIGINS", "chat.example.com"),
    ("CSRF_TRUSTED_ORIGINS", "https://chat.example.com/admin"),
    ("DATABASE_URL", "postgres://user:s3cret@host/name"),
    ("DATABASE_URL", "chat.sqlite3"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "mysql://host"),
    ("DATABASE_URL", "mysql://user:s3cret/x@host/name"),
    ("DATABASE_URL", "mysql://user:[s3cret@host/name"),
    ("DATA_DIR", "~nobody-of-that-name/data"),
    ("DEBUG", "perhaps"),
    ("DEMO", "sometimes"),
    ("ELASTICSEARCH_INDEX_PREFIX", "_messages"),
    ("ELASTICSEARCH_INDEX_PREFIX", "a b"),
    ("ELASTICSEARCH_INDEX_PREFIX", "a,b"),
    ("ELASTICSEARCH_INDEX_PREFIX", "a*"),
    ("ELASTICSEARCH_INDEX_PREFIX", "é"),
    ("ELASTICSEARCH_REPLICAS", "-1"),
    ("ELASTICSEARCH_REPLICAS", "0-1"),
    ("ELASTICSEARCH_SEARCHES", "0"),
    ("ELASTICSEARCH_SHARDS", "0"),
    ("ELASTICSEARCH_SHARDS", "1025"),
    ("ELASTICSEARCH_TIMEOUT", "0"),
    ("ELASTICSEARCH_URL", "host:9200"),
    ("ELASTICSEARCH_URL", "http://host"),
    ("ELASTICSEARCH_URL", "http://:9200"),
    ("ELASTICSEARCH_URL", "http://host:x"),
    ("ELASTICSEARCH_URL", "//host:9200"),
    ("ELASTICSEARCH_URL", "redis://:s3cret@host:9200"),
    ("ELASTICSEARCH_URL", "http://one:9200,http://two"),
    ("HTTPS_ONLY", "maybe"),
    ("LOG_FORMAT", "xml"),
    ("LOG_LEVEL", "loud"),
    ("METRICS_DIR", "/proc/version/metrics"),
    ("PORT", "http"),
    ("PORT", "0"),
    ("PORT", "65536"),
    ("RATE_LIMIT", "-1"),
    ("RATE_LIMIT", "nan"),
    ("RATE_LIMIT", "1e9"),
    ("STREAMS_PER_APPLICATION", "0"),
    ("RATE_LIMIT_BURST", "0"),
    ("RATE_LIMIT_BURST", "1.5"),
    ("REDIS_REPLICAS", "-1"),
    ("REDIS_TIMEOUT", "0"),
    ("REDIS_TIMEOUT", "inf"),
    ("REDIS_URL", "redis:6379"),
    ("REDIS_URL", "http://:s3cret@host/0"),
    ("REDIS_URL", "redis://:s3cret/x@host:6379/0"),
    ("REDIS_URL", "redis://:[s3cret@host:6379/0"),
    ("REDIS_URL", "redis://host:66666/0"),
    ("REDIS_URL", "redis://host:6379/first"),
    ("REDIS_URL", "redis://host:6379/0?tls=yes"),
    ("REDIS_URL", "unix://"),
    ("REDIS_URL", "redis://:s3cret,word@host:6379/0"),
    ("REDIS_URL", "redis://one,two:6379/0"),
    ("REDIS_URL", "redis://one:6379/0,"),
    ("REDIS_URL", "redis://one:6379/0,http://two"),
    ("REDIS_URL", "redis://one:6379/0,redis://one:6379/0"),
    ("REDIS_URL", "redis://one:6379/0,redis+cluster://two:6379"),
    ("REDIS_URL", "redis+cluster://"),
    ("REDIS_URL", "redis+cluster://one:6379/2"),
    ("REDIS_URL", "sentinel://host:26379"),
    ("REDIS_URL", "sentinel://host:26379/state/first"),
    ("REDIS_URL", "sentinel://:s3cret,word@host:26379/state/0"),
    ("REDIS_URL", "sentinel://host:26379/state/0?password=s3cret"),
    ("CACHE_URL", "redis://one:6379/0,redis://two:6379/0"),
    ("CACHE_URL", "redis+cluster://one:6379"),
    ("CELERY_BROKER_URL", "redis+cluster://one:6379"),
    ("SEARCH_INDEX_PATH", "/no/such/folder/search.sqlite3"),
    ("SEARCH_INDEX_PATH", "/tmp"),
    ("SLOW_DRAIN_SECONDS", "-1"),
    ("SLOW_QUERY_SECONDS", "-1"),
    ("SLOW_REQUEST_SECONDS", "soon"),
    ("WEB_PROCESSES", "0"),
    ("WORKERS", "-1"),
    ("WORKERS", "65"),
    ("WRITE_LOG_MAX_BYTES", "1000000"),
    ("WRITE_LOG_MAX_EVENTS", "many"),
    ("WRITE_LOG_MAX_EVENTS", "1"),
    *[
        (name, path)
        for name in sorted(FILES)
        for path in ("/no/such/file", "/tmp", "/dev/null", "~nobody-of-that-name/x")
    ],
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_invalid_value_is_refused_in_one_sentence_that_names_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartupError) as refused:
        read(monkeypatch, **{name: value})

    sentence = str(refused.value)
    assert sentence.startswith(name)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    # An address may hold a password. No part of it may be quoted.
    assert "s3cret" not in sentence


def test_each_variable_has_an_invalid_value() -> None:
    assert {name for name, _ in WRONG} | ANY == variables()


@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_variable_is_an_unset_one(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = read(monkeypatch)

    for name in variables() - {"DATA_DIR", "SECRET_KEY"}:
        assert read(monkeypatch, **{name: blank}) == usual, name


def test_an_empty_secret_key_is_the_one_that_make_run_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR.secret_key.write_text("kept-by-make-run\n")
    try:
        assert read(monkeypatch, SECRET_KEY=" ")["SECRET_KEY"] == "kept-by-make-run"
    finally:
        settings.DATA_DIR.secret_key.unlink()


#: A value of each secret, and the setting that it sets.
SECRET_VALUES = {
    "ADMIN_API_KEY": ("a-key", "ADMIN_API_KEY"),
    "CACHE_URL": ("redis://:s3cret@cache:6379/1", "CACHE_URL"),
    "CELERY_BROKER_URL": ("redis://:s3cret@broker:6379/1", "CELERY_BROKER_URL"),
    "DATABASE_URL": ("mysql://chat:s3cret@host/chat", "DATABASES"),
    "ELASTICSEARCH_URL": ("http://elastic:s3cret@host:9200", "ELASTICSEARCH_URL"),
    "REDIS_URL": ("redis://:s3cret@state:6379/1", "REDIS_URL"),
    "SECRET_KEY": ("k9" * 32, "SECRET_KEY"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file_and_is_the_same_as_in_the_variable(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    value, setting = SECRET_VALUES[name]
    file = tmp_path / "secret "
    file.write_text(f"{value}\n")

    kept = read(monkeypatch, **{f"{name}_FILE": str(file)})

    assert kept[setting] == read(monkeypatch, **{name: value})[setting]
    assert kept[setting] != read(monkeypatch)[setting]
    if name == "REDIS_URL":
        assert not kept["options"].own_redis


@pytest.mark.parametrize("name", sorted(set(SECRETS) - {"SECRET_KEY"}))
def test_a_secret_in_the_variable_and_in_a_file_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match=f"^{name} and {name}_FILE are both set; unset one of them.$"):
        read(monkeypatch, **{name: SECRET_VALUES[name][0], f"{name}_FILE": "/no/such/file"})


def test_a_secrets_file_may_be_binary_which_is_refused_without_quoting_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"s3cret\xff")

    with pytest.raises(StartupError, match=r"not a file of text\); name a file") as refused:
        read(monkeypatch, ADMIN_API_KEY_FILE=str(tmp_path / "secret"))

    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "given", "setting", "value"),
    [
        ("ALLOWED_HOSTS", " a.example , ,b.example,", "ALLOWED_HOSTS", ["a.example", "b.example"]),
        (
            "CORS_ORIGINS",
            "HTTPS://App.example:443/ ,http://[::1]:80",
            "CORS_ORIGINS",
            ["https://app.example", "http://[::1]"],
        ),
        ("CORS_ORIGINS", "http://a.example:05173", "CORS_ORIGINS", ["http://a.example:5173"]),
        ("CSRF_TRUSTED_ORIGINS", "HTTPS://Chat.example/ ", "CSRF_TRUSTED_ORIGINS", ["https://chat.example"]),
        ("DEBUG", " TRUE ", "DEBUG", True),
        ("ELASTICSEARCH_INDEX_PREFIX", "Chat", "ELASTICSEARCH_INDEX_PREFIX", "chat"),
        ("ELASTICSEARCH_URL", "HTTP://a:1 , http://b:1 ,", "ELASTICSEARCH_URL", "http://a:1,http://b:1"),
        ("ELASTICSEARCH_URL", "http://u:p,q@a:1,http://b:1", "ELASTICSEARCH_URL", "http://u:p%2Cq@a:1,http://b:1"),
        ("HTTPS_ONLY", "Yes", "HTTPS_ONLY", True),
        ("HTTPS_ONLY", " off", "HTTPS_ONLY", False),
        ("RATE_LIMIT", " 50 ", "RATE_LIMIT", 50.0),
        ("REDIS_URL", " Redis://host:6379/1 ", "REDIS_URL", "redis://host:6379/1"),
        ("REDIS_URL", "redis://:a%2Cb;c@host", "CACHE_URL", "redis://:a%2Cb%3Bc@host"),
        ("REDIS_URL", "redis://:a%2Cb;c@host", "CELERY_BROKER_URL", "redis://:a%2Cb%3Bc@host"),
    ],
)
def test_blanks_case_and_signs_do_not_matter_where_they_mean_nothing(
    name: str, given: str, setting: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(monkeypatch, **{name: given})[setting] == value


def test_log_level_and_format_ignore_case(monkeypatch: pytest.MonkeyPatch) -> None:
    logging = read(monkeypatch, LOG_LEVEL=" debug", LOG_FORMAT="JSON ")["LOGGING"]

    assert logging["root"]["level"] == "DEBUG"
    assert list(logging["formatters"]) == ["json"]


def test_an_ipv6_address_may_be_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, BIND=" [::1] ")["options"].url == "http://[::1]:8000"


def test_the_scheme_of_a_database_url_ignores_case(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, DATABASE_URL="MySQL://host/chat")["DATABASES"]["default"]["NAME"] == "chat"


def test_a_data_dir_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(monkeypatch, DATA_DIR="~/chat")["DATA_DIR"].root == tmp_path / "chat"


def test_the_socket_of_a_long_data_dir_does_not_depend_on_the_shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = str(tmp_path / ("long" * 40))
    socket = read(monkeypatch, DATA_DIR=long)["DATA_DIR"].redis_socket

    monkeypatch.setenv("TMPDIR", long)

    assert read(monkeypatch, DATA_DIR=long)["DATA_DIR"].redis_socket == socket
    assert len(str(socket)) < 100


def test_variables_of_other_tools_do_not_reach_what_make_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ["CELERY_WORKER_CONCURRENCY", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PIP_TARGET", "PYTHONPATH"]
    foreign += ["PYTHONWARNINGS", "DJANGO_COLORS", "BROKER_URL", "SCRIPT_NAME", "MYSQL_TCP_PORT"]
    kept = ["CELERY_BROKER_URL", "CELERY_BROKER_URL_FILE", "REDIS_URL", "PATH", "HOME", "LD_PRELOAD", "HTTPS_ONLY"]
    for name in [*foreign, *kept]:
        monkeypatch.setenv(name, "x")

    passed_on = Options.from_environ().environ()

    assert not set(foreign) & set(passed_on)
    assert {passed_on[name] for name in kept} == {"x"}
    assert passed_on["DJANGO_SETTINGS_MODULE"] == "chatsystem.settings"


#: The programs that read the settings, and their command lines.
STARTS = {
    "manage.py": ["manage.py", "check"],
    "gunicorn": ["-m", "gunicorn", "--config", "python:chatsystem.server.gunicorn", "chatsystem.wsgi"],
    "worker": ["-m", "celery", "--app", "chatsystem.celery", "worker"],
    "beat": ["-m", "celery", "--app", "chatsystem.celery", "beat", "--pidfile", ""],
    "prepare": ["-m", "chatsystem.embedded.prepare"],
}


@pytest.mark.parametrize("start", STARTS)
def test_each_program_ends_with_the_sentence_alone(start: str, tmp_path: Path) -> None:
    # The shell exports another project's settings, which must be ignored.
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "another.settings"}
    if start == "prepare":
        environment["DJANGO_SETTINGS_MODULE"] = "chatsystem.settings"
    command = [sys.executable, *STARTS[start]]

    run = subprocess.run(
        command, cwd=BASE_DIR, env={**environment, "RATE_LIMIT": "-1"}, capture_output=True, text=True, timeout=60
    )

    assert run.returncode == 1
    assert run.stdout + run.stderr == (
        "RATE_LIMIT has to be a number from 0 to 1000000, not '-1'; leave it unset for 0.\n"
    )


@pytest.mark.parametrize(
    ("url", "kombus"),
    [
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("redis://:password@host:6379/1", "redis://:password@host:6379/1"),
        ("rediss://host:6379/0?ssl_ca_certs=/ca.pem", "rediss://host:6379/0?ssl_ca_certs=/ca.pem"),
    ],
)
def test_the_broker_takes_the_same_urls_as_the_state(url: str, kombus: str) -> None:
    assert addresses.for_kombu(url) == kombus


#: Each variable with a value, the setting that it sets, and the setting's value with it and without any variable.
EFFECTS: list[tuple[str, str, str, object, object]] = [
    ("DEBUG", "1", "DEBUG", True, False),
    ("SECRET_KEY", "k9" * 32, "SECRET_KEY", "k9" * 32, ANYTHING),
    ("ALLOWED_HOSTS", "a.example,b", "ALLOWED_HOSTS", ["a.example", "b"], ["localhost", "127.0.0.1", "[::1]"]),
    ("CORS_ORIGINS", "https://a.example", "CORS_ORIGINS", ["https://a.example"], []),
    ("CSRF_TRUSTED_ORIGINS", "https://a.example", "CSRF_TRUSTED_ORIGINS", ["https://a.example"], []),
    ("ADMIN_API_KEY", "key", "ADMIN_API_KEY", "key", ""),
    ("STREAMS_PER_APPLICATION", "9", "STREAMS_PER_APPLICATION", 9, 5_000),
    ("RATE_LIMIT", "7.5", "RATE_LIMIT", 7.5, 0),
    ("RATE_LIMIT_BURST", "9", "RATE_LIMIT_BURST", 9, 100),
    ("HTTPS_ONLY", "1", "SECURE_SSL_REDIRECT", True, False),
    ("HTTPS_ONLY", "1", "SECURE_HSTS_SECONDS", 31_536_000, 0),
    ("HTTPS_ONLY", "1", "SECURE_HSTS_INCLUDE_SUBDOMAINS", True, False),
    ("HTTPS_ONLY", "1", "SECURE_HSTS_PRELOAD", True, False),
    ("HTTPS_ONLY", "1", "SECURE_PROXY_SSL_HEADER", ["HTTP_X_FORWARDED_PROTO", "https"], None),
    ("HTTPS_ONLY", "1", "SESSION_COOKIE_SECURE", True, False),
    ("HTTPS_ONLY", "1", "CSRF_COOKIE_SECURE", True, False),
    ("STATIC_ROOT", "/a/folder", "STATIC_ROOT", "/a/folder", None),
    ("DATABASE_URL", "sqlite:////a/file", "DATABASES.default.NAME", "/a/file", "DATA/chat.sqlite3"),
    ("REDIS_URL", "redis://state/1", "REDIS_URL", "redis://state/1", "unix://DATA/run/redis.sock?db=0"),
    ("REDIS_TIMEOUT", "1.5", "REDIS_TIMEOUT", 1.5, 3),
    ("REDIS_REPLICAS", "2", "REDIS_REPLICAS", 2, 0),
    ("CACHE_URL", "redis://cache/2", "CACHES.default.LOCATION", "redis://cache/2", "unix://DATA/run/redis.sock?db=1"),
    ("CELERY_BROKER_URL", "redis://b/3", "CELERY_BROKER_READ_URL", "redis://b/3", ANYTHING),
    (
        *("CELERY_BROKER_URL", "redis://b/3", "CELERY_BROKER_WRITE_URL"),
        *("redis://b/3", "redis+socket://DATA/run/redis.sock?virtual_host=2"),
    ),
    ("WRITE_LOG_MAX_EVENTS", "2345", "WRITE_LOG_MAX_EVENTS", 2345, 100_000),
    ("WRITE_LOG_MAX_BYTES", "5000000", "WRITE_LOG_MAX_BYTES", 5_000_000, 67_108_864),
    ("ELASTICSEARCH_URL", "http://e:9200", "ELASTICSEARCH_URL", "http://e:9200", ""),
    *[
        ("ELASTICSEARCH_URL", "http://e:9200", "SEARCH_BACKEND", f"search.backends.{ours}", f"search.backends.{theirs}")
        for ours, theirs in [("elasticsearch.ElasticsearchBackend", "fts5.Fts5Backend")]
    ],
    ("ELASTICSEARCH_INDEX_PREFIX", "ours", "ELASTICSEARCH_INDEX_PREFIX", "ours", "chatsystem-messages"),
    ("ELASTICSEARCH_TIMEOUT", "1.25", "ELASTICSEARCH_TIMEOUT", 1.25, 3),
    ("ELASTICSEARCH_SEARCHES", "6", "ELASTICSEARCH_SEARCHES", 6, 4),
    ("ELASTICSEARCH_SHARDS", "3", "ELASTICSEARCH_SHARDS", 3, 1),
    ("ELASTICSEARCH_REPLICAS", "2", "ELASTICSEARCH_REPLICAS", 2, 1),
    ("SEARCH_INDEX_PATH", "/tmp/an-index", "SEARCH_INDEX_PATH", "/tmp/an-index", "DATA/search.sqlite3"),
    ("METRICS_DIR", "/a/folder", "METRICS_DIR", "/a/folder", "DATA/run/metrics"),
    ("LOG_LEVEL", "DEBUG", "LOGGING.root.level", "DEBUG", "INFO"),
    ("LOG_FORMAT", "json", "LOGGING.handlers.console.formatter", "json", "line"),
    ("SLOW_REQUEST_SECONDS", "4.5", "SLOW_REQUEST_SECONDS", 4.5, 1),
    ("SLOW_QUERY_SECONDS", "5.5", "SLOW_QUERY_SECONDS", 5.5, 0.5),
    ("SLOW_DRAIN_SECONDS", "6.5", "SLOW_DRAIN_SECONDS", 6.5, 1),
]

TELL = """
import json, sys
from chatsystem import settings

def value(path):
    name, *keys = path.split(".")
    found = getattr(settings, name)
    for key in keys:
        found = found[key]
    return found

print(json.dumps({path: value(path) for path in sys.argv[1:]}, default=str))
"""


def told(data_dir: Path, **variables: str) -> dict[str, object]:
    """Returns the settings of EFFECTS, in an environment with these variables and none of the tests'."""
    command = [sys.executable, "-c", TELL, *dict.fromkeys(path for _, _, path, _, _ in EFFECTS)]
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir), **variables}
    run = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(run.stdout.replace(str(data_dir), "DATA"))
    return found


def test_each_variable_of_the_environment_has_its_effect_and_no_other(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A short path, since a socket's path is limited.
    tmp_path = tmp_path_factory.mktemp("d")
    assert told(tmp_path) == {path: default for _, _, path, _, default in EFFECTS}
    given = told(tmp_path, **{name: value for name, value, _, _, _ in EFFECTS})
    assert given == {path: effect for _, _, path, effect, _ in EFFECTS}


def test_cache_and_broker_default_to_the_state_redis(tmp_path: Path) -> None:
    given = told(tmp_path, REDIS_URL="redis://one/0")

    for path in ("REDIS_URL", "CACHES.default.LOCATION", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        assert given[path] == "redis://one/0"


def test_a_commit_on_sqlite_is_on_the_disk_and_readers_do_not_wait_for_writers(
    tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> None:
    connection = ConnectionHandler({"default": database.parse(f"sqlite:///{tmp_path}/file")})["default"]
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        full, wal = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    connection.close()

    assert (full, wal) == (2, "wal")


def test_a_database_connection_is_reused_for_a_second_only(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/file", "mysql://chat@host/chat"):
        assert database.parse(url)["CONN_MAX_AGE"] == 1


def test_beat_sends_each_periodic_task_at_its_pace_and_none_to_pile_up() -> None:
    app.loader.import_default_modules()
    schedule = settings.CELERY_BEAT_SCHEDULE.values()

    assert {entry["task"]: entry["schedule"].run_every.total_seconds() for entry in schedule} == {
        "writelog.sweep": 2,
        "search.index_outbox": 2,
        "writelog.sample": 2,
        "writelog.reconcile": 30,
        "writelog.trim_feed": 600,
    }
    assert app.tasks.keys() >= {entry["task"] for entry in schedule}
    assert all(entry["options"]["expires"] <= 60 for entry in schedule)
