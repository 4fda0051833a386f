"""The internals of other packages that the product uses are listed in docs/third-party.md, and still exist."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import settings

PACKAGES = ("applications", "chats", "chatsystem", "live", "messages_app", "search")
PAGE = (settings.BASE_DIR / "docs" / "third-party.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| `")]
#: Documented by Django and Python in spite of their underscore.
DOCUMENTED = {"_asdict", "_base_manager", "_default_manager", "_meta"}


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def gunicorn_response() -> None:
    from gunicorn.http import wsgi
    from gunicorn.workers.gthread import ThreadWorker

    # The worker makes its responses from the module's name.
    assert "response_class = Response" in inspect.getsource(wsgi.create)
    assert "wsgi.create(req, conn.sock" in inspect.getsource(ThreadWorker.handle_request)
    assert parameters(wsgi.Response) == ["req", "sock", "cfg"]
    response = wsgi.Response(Mock(), Mock(), Mock())
    assert (response.headers_sent, response.must_close) == (False, False)
    assert parameters(response.send_headers) == parameters(response.close) == parameters(response.force_close) == []


def gunicorn_worker() -> None:
    from gunicorn.workers.gthread import TConn, ThreadWorker

    signatures = {name: parameters(getattr(ThreadWorker, name)) for name in STEPS}
    assert signatures == {name: ["self", *given] for name, given in STEPS.items()}
    source = inspect.getsource(ThreadWorker)
    for name in ("poller", "nr_conns", "worker_connections", "alive"):
        assert f"self.{name}" in source
    assert parameters(TConn) == ["cfg", "sock", "client", "server"]
    # An initialised connection is neither waited for nor given another parser.
    assert "if self.initialized:\n            return" in inspect.getsource(TConn.init)
    assert "if not conn.initialized and" in inspect.getsource(ThreadWorker.handle)


def gunicorn_asgi() -> None:
    from gunicorn.asgi.protocol import ASGIProtocol
    from gunicorn.workers import gasgi

    worker = inspect.getsource(gasgi.ASGIWorker)
    # The protocol is looked up in the module. Servers besides asyncio's are closed and waited for like those.
    assert "lambda: ASGIProtocol(self)" in worker
    assert "if not self.servers:" in worker
    assert "server.close()" in worker
    assert "server.wait_closed()" in worker
    assert parameters(gasgi.ASGIWorker.handle_exit_signal) == parameters(gasgi.ASGIWorker._serve) == ["self"]
    assert parameters(ASGIProtocol.connection_made) == ["self", "transport"]
    assert parameters(ASGIProtocol.data_received) == ["self", "data"]
    assert parameters(ASGIProtocol.connection_lost) == ["self", "exc"]
    assert parameters(ASGIProtocol._on_headers_complete) == parameters(ASGIProtocol._close_transport) == ["self"]
    assert parameters(ASGIProtocol._build_http_scope) == ["self", "request", "sockname", "peername"]
    assert parameters(ASGIProtocol._send_error_response) == ["self", "status", "message", "extra_headers"]
    assert parameters(ASGIProtocol._is_websocket_upgrade) == ["self", "request"]
    assert parameters(ASGIProtocol._safe_write) == ["self", "data"]
    # `_push` writes chunks where `send` would: in a response without a length, to a client of HTTP/1.1.
    assert "request.version >= (1, 1)" in inspect.getsource(ASGIProtocol._handle_http_request)
    # A client that has gone ends its stream: the task is cancelled at once.
    assert "self._task.cancel()" in inspect.getsource(ASGIProtocol.connection_lost)


#: Methods that the worker overrides, and their parameters.
STEPS = {
    "accept": ["listener"],
    "enqueue_req": ["conn"],
    "finish_request": ["conn", "fs"],
    "handle_error": ["req", "client", "addr", "exc"],
    "handle_request": ["req", "conn"],
    "init_process": [],
    "load_wsgi": [],
    "murder_pending": [],
    "run": [],
    "set_accept_enabled": ["enabled"],
    "wait_for_and_dispatch_events": ["timeout"],
}


def gunicorn_sockets() -> None:
    from gunicorn import sock
    from gunicorn.arbiter import Arbiter
    from gunicorn.config import Config

    assert "self.cfg.on_starting(self)" in inspect.getsource(Arbiter.start).partition("create_sockets")[0]
    setting_options = inspect.getsource(sock.BaseSocket.set_options)
    assert "if not self._is_listening(sock):\n            sock.listen(" in setting_options
    # A process may close its sockets before gunicorn does.
    listener = sock.TCPSocket(("127.0.0.1", 0), Config(), Mock())
    listener.close()
    listener.close()


def gunicorn_parser() -> None:
    from gunicorn.config import Config
    from gunicorn.http import get_parser

    pieces = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", b""]
    source = Mock(spec=["recv"], recv=lambda size: pieces.pop(0))
    request = next(get_parser(Config(), source, ("127.0.0.1", 1)))
    assert (request.body.failed, request.unreader.buf.getvalue()) == (False, b"{}")
    assert request.body.read(10) == b"{}"
    assert request.unreader.buf.getvalue() == b""


def gunicorn_errors() -> None:
    from gunicorn.http import errors

    for name in ("LimitRequestLine", "LimitRequestHeaders", "ExpectationFailed", "InvalidResponseHeader"):
        assert issubclass(getattr(errors, name), errors.ParseException)
    assert issubclass(errors.InvalidResponseHeaderName, errors.ParseException)


def gunicorn_logger() -> None:
    from gunicorn.glogging import Logger

    assert parameters(Logger.setup) == ["self", "cfg"]


def kombu_connection() -> None:
    from celery.app.amqp import AMQP
    from kombu import Connection

    assert AMQP.Connection is Connection
    assert parameters(Connection.maybe_close_channel) == ["self", "channel"]
    assert {"interval_start", "interval_step"} <= set(parameters(Connection._ensure_connection))


def kombu_redis() -> None:
    from kombu.transport.redis import Channel

    assert "ack_emulation" in Channel.from_transport_options


def celery_pool() -> None:
    from celery.concurrency.prefork import TaskPool
    from kombu.asynchronous.hub import Hub

    assert parameters(Hub.call_repeatedly) == ["self", "delay", "callback", "args"]
    # The pool names its method when it starts.
    assert "maintain_pool" in inspect.getsource(TaskPool.on_start)


def celery_trace() -> None:
    from celery.app import trace

    assert trace.logger.name == "celery.app.trace"
    source = inspect.getsource(trace.TraceInfo._log_error)
    assert "'exc': exception" in source
    assert "'traceback': traceback" in source


def django_changeform() -> None:
    from django.contrib.admin import ModelAdmin

    expected = ["self", "request", "object_id", "form_url", "extra_context"]
    assert parameters(ModelAdmin._changeform_view) == parameters(ModelAdmin.changeform_view) == expected


def django_change_list() -> None:
    from django.contrib.admin.views.main import ChangeList

    assert parameters(ChangeList.get_results) == ["self", "request"]


def django_migrations() -> None:
    from django.db.migrations.executor import MigrationExecutor

    assert parameters(MigrationExecutor.migration_plan)[:2] == ["self", "targets"]


def django_execute_wrappers() -> None:
    from django.db import connection

    assert isinstance(connection.execute_wrappers, list)


def django_mysql() -> None:
    from django.db.backends.mysql.base import DatabaseWrapper

    assert {"mysql_is_mariadb", "mysql_version"} <= vars(DatabaseWrapper).keys()


def django_conditional_get() -> None:
    from django.middleware.http import ConditionalGetMiddleware

    assert parameters(ConditionalGetMiddleware.process_response) == ["self", "request", "response"]


def django_handler() -> None:
    from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
    from django.utils.http import parse_header_parameters

    assert parameters(WSGIHandler.get_response) == ["self", "request"]
    assert WSGIHandler.request_class is WSGIRequest
    assert parameters(WSGIRequest.get_host) == ["self"]
    assert parse_header_parameters("text/html; charset=utf-8") == ("text/html", {"charset": "utf-8"})


def drf_cycle() -> None:
    from rest_framework.views import APIView

    assert "response.renderer_context = self.get_renderer_context()" in inspect.getsource(APIView.finalize_response)
    assert "parser_context=parser_context" in inspect.getsource(APIView.initialize_request)


def drf_request() -> None:
    from django.test import RequestFactory
    from rest_framework.request import Request

    request = RequestFactory().get("/")
    assert Request(request)._request is request


def spectacular() -> None:
    from drf_spectacular.openapi import AutoSchema

    assert parameters(AutoSchema.get_operation) == ["self", "path", "path_regex", "path_prefix", "method", "registry"]
    assert parameters(AutoSchema.resolve_serializer)[:3] == ["self", "serializer", "direction"]


def prometheus_values() -> None:
    from prometheus_client import metrics, values

    # Histograms look the class up when they are made.
    assert "values.ValueClass(" in inspect.getsource(metrics.Histogram)
    assert parameters(values.MultiProcessValue) == ["process_identifier"]


def prometheus_bounds() -> None:
    from prometheus_client.utils import floatToGoString

    assert [floatToGoString(bound) for bound in (0.25, 1.0, float("inf"))] == ["0.25", "1.0", "+Inf"]


def redis_connection() -> None:
    from redis import Connection, ConnectionPool

    assert parameters(Connection.send_command)[:2] == ["self", "args"]
    assert parameters(Connection.send_packed_command)[:2] == ["self", "command"]
    assert parameters(Connection.pack_commands) == ["self", "commands"]
    pool = ConnectionPool()
    assert all(hasattr(pool, name) for name in ("get_connection", "release", "disconnect"))
    assert "inuse_connections" in parameters(ConnectionPool.disconnect)
    assert Connection.read_response


def redis_cluster() -> None:
    from redis import RedisCluster
    from redis.cluster import NodesManager
    from redis.sentinel import SentinelConnectionPool

    assert parameters(RedisCluster.get_node_from_key)[:2] == ["self", "key"]
    assert parameters(RedisCluster.get_redis_connection) == ["self", "node"]
    assert parameters(NodesManager.initialize)[0] == "self"
    assert parameters(SentinelConnectionPool.__init__)[:3] == ["self", "service_name", "sentinel_manager"]


def redis_callbacks() -> None:
    from redis import Redis

    client = Redis()
    client.set_response_callback("XRANGE", list)
    assert client.response_callbacks["XRANGE"] is list


def elasticsearch_mapping() -> None:
    from search.backends.elasticsearch.document import MessageDocument

    assert MessageDocument._doc_type.mapping.to_dict()["properties"]


#: One for each row of the page, in its order.
CHECKS: list[Callable[[], None]] = [
    gunicorn_response,
    gunicorn_worker,
    gunicorn_asgi,
    gunicorn_sockets,
    gunicorn_parser,
    gunicorn_errors,
    gunicorn_logger,
    kombu_connection,
    kombu_redis,
    celery_pool,
    celery_trace,
    django_changeform,
    django_change_list,
    django_migrations,
    django_execute_wrappers,
    django_mysql,
    django_conditional_get,
    django_handler,
    drf_cycle,
    drf_request,
    spectacular,
    prometheus_values,
    prometheus_bounds,
    redis_connection,
    redis_cluster,
    redis_callbacks,
    elasticsearch_mapping,
]
NEEDS = {django_mysql: "MySQLdb", elasticsearch_mapping: "django_elasticsearch_dsl"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_installed_version_has_what_the_product_uses(check: Callable[[], None]) -> None:
    if check in NEEDS and not util.find_spec(NEEDS[check]):
        pytest.skip(f"{NEEDS[check]} is not installed")
    check()


def test_each_row_of_the_page_has_a_check_and_names_what_exists() -> None:
    assert len(ROWS) == len(CHECKS)
    for where, what, _, _, tests in ROWS:
        source = "".join((settings.BASE_DIR / file).read_text() for file in names(where))
        used = [name.rpartition(".")[2] for name in names(what)]
        # A base class that is only named to tell whose method it is need not occur.
        assert any(name in source for name in used), what
        assert all((settings.BASE_DIR / file).exists() for file in names(tests)), tests


def test_the_page_names_the_installed_versions() -> None:
    distributions = {"DRF": "djangorestframework", "redis-py": "redis"}
    for _, _, _, versions, _ in ROWS:
        for each in versions.split(", "):
            name, version = each.split()
            installed = metadata.version(distributions.get(name, name))
            assert installed == version or installed.startswith(f"{version}."), f"{name} {installed}: review its rows"


def test_each_private_name_is_on_the_page() -> None:
    listed = {name.rpartition(".")[2] for _, what, *_ in ROWS for name in names(what)}
    assert {name for package in PACKAGES for file in sources(package) for name in private_names(file)} <= listed


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def sources(package: str) -> Iterator[Path]:
    return (file for file in (settings.BASE_DIR / package).rglob("*.py") if "migrations" not in file.parts)


def private_names(file: Path) -> set[str]:
    """Returns the private names that the file takes from other packages: those that it does not define itself."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and not is_own_call(node, own)}
    used |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {name for name in used - DOCUMENTED if name.startswith("_") and not name.startswith("__")}


def is_own_call(node: ast.Attribute, own: set[str]) -> bool:
    """Returns whether the attribute is one of the file's own. `super()._name` belongs to another package's class."""
    return node.attr in own and ast.unparse(node.value) != "super()"
