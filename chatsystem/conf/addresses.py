"""Checks the settings that hold addresses. Error messages never quote them, since they may hold a password."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

import redis

from chatsystem.conf.environment import given
from chatsystem.conf.startup import StartupError

REDIS_SCHEMES = {"redis", "rediss", "unix"}
SENTINEL = "sentinel://"
CLUSTER = "redis+cluster://"
#: The comma between two servers: a scheme follows it.
BETWEEN_SERVERS = re.compile(r",\s*(?=[a-z+]+://)", re.IGNORECASE)
SENTINEL_PORT = 26379
#: Upper limit for the number of a Redis database. No Redis has that many.
MAX_REDIS_DATABASE = 99_999

ENCODED = "percent-encode special characters of a password (%2F for /, %23 for #, %2C for a comma)"


@dataclass(frozen=True)
class Nodes:
    """What a URL of several nodes names: the nodes of a Cluster, or the sentinels of a service."""

    addresses: list[tuple[str, int]]
    #: Of the servers that hold data.
    username: str | None
    password: str | None
    service: str = ""
    database: int = 0
    sentinel_password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Nodes:
        """Parses `sentinel://[user:password@]host:port,…/service/db` and `redis+cluster://[user:password@]host:port,…`.

        Raises ValueError for any other URL.
        """
        default_port = SENTINEL_PORT if url.startswith(SENTINEL) else 6379
        # `urlsplit` takes only one host.
        rest = url.partition("://")[2]
        credentials, _, rest = rest.rpartition("@")
        rest, _, query = rest.partition("?")
        nodes, _, path = rest.partition("/")
        if "," in credentials:
            raise ValueError("a comma separates two servers")
        username, _, password = credentials.partition(":")
        parameters = {key: values[-1] for key, values in parse_qs(query, strict_parsing=bool(query)).items()}
        found = cls(
            [_address(node, default_port) for node in nodes.split(",")],
            unquote(username) or None,
            unquote(password) or None,
            sentinel_password=parameters.pop("sentinel_password", None),
        )
        if url.startswith(SENTINEL):
            service, _, database = path.partition("/")
            if not re.fullmatch(r"[\w.-]+", service, re.ASCII) or not re.fullmatch(r"\d{0,5}", database, re.ASCII):
                raise ValueError("not a service and the number of a database")
            found = replace(found, service=service, database=int(database or 0))
        elif not url.startswith(CLUSTER) or path.strip("/0") or found.sentinel_password:
            raise ValueError("a Cluster has one database")
        if parameters:
            raise ValueError("unknown parameters")
        return found

    @property
    def credentials(self) -> dict[str, Any]:
        """Returns the arguments of redis-py for the servers that hold data."""
        return {"username": self.username, "password": self.password}

    @property
    def sentinel_credentials(self) -> dict[str, Any]:
        """Returns the arguments of redis-py for the sentinels."""
        return {"password": self.sentinel_password}


def _address(node: str, default_port: int) -> tuple[str, int]:
    parts = split(f"//{node}")
    if not parts.hostname or parts.path or "@" in node:
        raise ValueError("not a host and a port")
    return parts.hostname, parts.port or default_port


def redis_url(name: str) -> str:
    """Returns the URL of a Redis or of a Sentinel's service, or "" when the variable is unset."""
    url = _redis_url(given(name))
    if url is None or url.startswith(CLUSTER) or BETWEEN_SERVERS.search(url):
        raise StartupError(
            f"{name} is not the address of a Redis; set {name}=redis://:password@host:6379/0, "
            "rediss://host:6379/0 (TLS), unix:///path/to/socket?db=0 or "
            f"sentinel://:password@host:26379,host:26379/service/0, and {ENCODED}."
        )
    return url


def state_redis_url(name: str) -> str:
    """Returns the URLs of the state Redis, separated by commas, or "" when the variable is unset."""
    return parse_state_redis(name, given(name))


def parse_state_redis(name: str, value: str) -> str:
    """Checks the value of REDIS_URL, or of the option `name`, and returns it as the product uses it.

    One Redis, several, a Sentinel's service, or a Cluster. Documented in docs/redis.md.
    """
    urls = [_redis_url(url) for url in BETWEEN_SERVERS.split(value)]
    named = [url for url in urls if url is not None]
    if len(named) < len(urls) or len(set(named)) < len(named) or (len(named) > 1 and not all(map(_is_listable, named))):
        raise StartupError(
            f"{name} is not the address of a state Redis; set {name}=redis://:password@host:6379/0, several such URLs "
            "separated by commas, sentinel://:password@host:26379,host:26379/service/0 or "
            f"redis+cluster://:password@host:6379,host:6379, and {ENCODED}."
        )
    return ",".join(named)


def servers(url: str) -> list[str]:
    """Splits the value of REDIS_URL into one URL for each server."""
    return BETWEEN_SERVERS.split(url)


def server_name(url: str) -> str:
    """Returns what identifies a server: host and port, the socket's path, the Sentinel's service, or "Cluster"."""
    if url.startswith(CLUSTER):
        return "Cluster"
    if url.startswith(SENTINEL):
        return Nodes.parse(url).service
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path


def first_server(state: str, name: str) -> str:
    """Returns the first server of the state Redis: the default of the setting `name`. Refuses a Cluster."""
    url = servers(state_redis_url(state))[0]
    if url.startswith(CLUSTER):
        raise StartupError(
            f"{state} names a Redis Cluster, and {name} is not set; set {name} to another Redis, because neither "
            "Celery nor the cache works on a Cluster."
        )
    return url


def for_django_redis(url: str) -> dict[str, Any]:
    """Returns the entries of CACHES that choose the Redis."""
    options: dict[str, Any] = {"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}
    if not url.startswith(SENTINEL):
        return {"LOCATION": url, "OPTIONS": options}
    nodes = Nodes.parse(url)
    options |= {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "SENTINELS": nodes.addresses,
        "SENTINEL_KWARGS": {**nodes.sentinel_credentials, "socket_timeout": 1, "socket_connect_timeout": 1},
        # django-redis would take the host of LOCATION, in lower case.
        "CONNECTION_POOL_KWARGS": {"service_name": nodes.service, **nodes.credentials},
    }
    return {"LOCATION": f"redis://service/{nodes.database}", "OPTIONS": options}


def kombu_options(url: str) -> dict[str, Any]:
    """Returns the transport options that name the Sentinel's service. Empty for another Redis."""
    if not url.startswith(SENTINEL):
        return {}
    nodes = Nodes.parse(url)
    return {
        "master_name": nodes.service,
        "sentinel_kwargs": {**nodes.sentinel_credentials, "socket_timeout": 2, "socket_connect_timeout": 2},
    }


def for_kombu(url: str) -> str:
    """Returns a Redis URL in kombu's spelling, which differs for Unix sockets and for Sentinel."""
    if url.startswith(SENTINEL):
        nodes = Nodes.parse(url)
        credentials = f"{quote(nodes.username or '', safe='')}:{quote(nodes.password or '', safe='')}@"
        hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in nodes.addresses]
        return ";".join(f"{SENTINEL}{credentials}{host}/{nodes.database}" for host in hosts)
    return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


def elasticsearch_url(name: str) -> str:
    """Returns the comma-separated URLs, or "" when the variable is unset. Encodes commas within a URL."""
    found = re.split(r",(?=\s*(?:\w+://|$))", given(name))
    urls = [_normal(url.strip()).replace(",", "%2C") for url in found if url.strip()]
    if not all(map(_is_elasticsearch, urls)):
        raise StartupError(
            f"{name} is not the address of an Elasticsearch; set {name}=http://host:9200, "
            f"https://user:password@host:9200, or several of them separated by commas, and {ENCODED}."
        )
    if urls and not find_spec("django_elasticsearch_dsl"):
        raise StartupError(
            f"{name} is set, but django-elasticsearch-dsl is not installed; "
            "install it with `.venv/bin/pip install --require-hashes -r requirements/all.lock`."
        )
    return ",".join(urls)


def host_names(name: str, names: list[str]) -> list[str]:
    """Returns the host names. Refuses one with a scheme, port or path, since it would never match a request."""
    for host in names:
        if not re.fullmatch(r"\*|\.?[\w.-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise StartupError(
                f"{name} holds {host!r}, which is not a host name; "
                f"list hosts without scheme, port and path, such as {name}=chat.example.com,localhost."
            )
    return names


def origins(name: str, urls: list[str]) -> list[str]:
    """Returns the origins as browsers send them: a scheme and a host without a path."""
    found = [url.rstrip("/").lower() for url in urls]
    for url in found:
        if not re.fullmatch(r"https?://(\*\.)?[\w.-]+(:\d+)?|https?://\[[0-9a-f:.]+\](:\d+)?", url):
            raise StartupError(
                f"{name} holds {url!r}, which is not an origin; "
                f"list origins with a scheme and without a path, such as {name}=https://chat.example.com."
            )
    return found


def exact_origins(name: str, urls: list[str]) -> list[str]:
    """Returns the origins exactly as browsers send them, which includes no default port. Refuses patterns."""
    found = []
    for url in map(str.lower, urls):
        match = re.fullmatch(r"(https?)://([\w.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?", url.rstrip("/"), re.ASCII)
        if not match:
            why = "which would let in pages that nobody listed" if "*" in url else "which is not an origin"
            raise StartupError(
                f"{name} holds {url!r}, {why}; "
                f"list the origins of your pages, with a scheme and without a path, such as {name}=https://app.example.com."
            )
        scheme, host, port = match.groups()
        default = {"http": "80", "https": "443"}[scheme]
        found.append(f"{scheme}://{host}" if port in (None, default) else f"{scheme}://{host}:{int(port)}")
    return found


def secrets_of(url: str) -> set[str]:
    """Returns the URL's passwords, plain and percent-encoded. No message may contain any of them."""
    spelt = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    of_sentinels = url.partition("sentinel_password=")[2].partition("&")[0]
    return {spelt, unquote(spelt), of_sentinels, unquote(of_sentinels)} - {""}


def split(url: str) -> SplitResult:
    """Splits a URL. Raises ValueError when it or its port is malformed."""
    parts = urlsplit(url)
    _ = parts.port
    return parts


def _normal(url: str) -> str:
    """Returns the URL with its scheme in lower case."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest}"


def _redis_url(text: str) -> str | None:
    """Returns one URL as the product uses it, or None if it is none. Encodes `;`, where kombu would split the URL."""
    url = _normal(text.strip()).replace(";", "%3B")
    if not url:
        return url
    if not url.startswith((SENTINEL, CLUSTER)):
        return url if "," not in url and _is_redis(url) else None
    try:
        Nodes.parse(url)
    except ValueError:
        return None
    return url


def _is_listable(url: str) -> bool:
    """Returns whether the URL may be one of several servers."""
    return bool(url) and not url.startswith(CLUSTER)


def _is_redis(url: str) -> bool:
    try:
        parts = split(url)
        # This does not connect. It raises for parameters that the driver does not know.
        redis.ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        return False
    if parts.scheme not in REDIS_SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
        return False
    database = re.search(r"(?:^|&)db=([^&]*)", parts.query)
    number = database[1] if database else "" if parts.scheme == "unix" else parts.path.strip("/")
    return number == "" or (number.isdecimal() and int(number) <= MAX_REDIS_DATABASE)


def _is_elasticsearch(url: str) -> bool:
    try:
        parts = split(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname and parts.port)
    except ValueError:
        return False
