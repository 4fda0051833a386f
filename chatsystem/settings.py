"""Django's settings. They come from the environment; the defaults are the embedded profile (docs/settings.md).

`DATABASE_URL`, `REDIS_URL` and similar settings choose the services. No feature exists in one profile only.
"""

from urllib.parse import quote

from django.core.management.utils import get_random_secret_key
from environs import validate
from kombu import Queue

import chatsystem
from chatsystem.conf import addresses, data_dir, database
from chatsystem.conf.environment import env, for_a_folder, given, in_a_folder
from chatsystem.conf.schedule import every
from chatsystem.conf.startup import StartupError
from chatsystem.logs import config as logs
from chatsystem.server.receiving import MAX_BODY

BASE_DIR = data_dir.BASE_DIR
DATA_DIR = data_dir.DataDir.from_environ()


def kept_secret_key() -> str:
    """Returns the key that `make run` keeps in DATA_DIR, or else a temporary one (tests, makemigrations)."""
    try:
        kept = DATA_DIR.secret_key.read_text().strip()
    except FileNotFoundError:
        return get_random_secret_key()
    except OSError as error:
        raise StartupError(
            f"The secret key in DATA_DIR cannot be read ({error.strerror}: {error.filename}); "
            "run this as the user who runs the product, or set SECRET_KEY."
        ) from None
    return kept or get_random_secret_key()


# Security -------------------------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = given("SECRET_KEY") or kept_secret_key()
ALLOWED_HOSTS = addresses.host_names("ALLOWED_HOSTS", env.words("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"]))
CSRF_TRUSTED_ORIGINS = addresses.origins("CSRF_TRUSTED_ORIGINS", env.words("CSRF_TRUSTED_ORIGINS", []))
#: Origins whose pages may use the API from a browser.
CORS_ORIGINS = addresses.exact_origins("CORS_ORIGINS", env.words("CORS_ORIGINS", []))

#: Comma-separated keys to the routes that span applications (`Authorization: Bearer …`). Empty: the routes are open.
ADMIN_API_KEY = given("ADMIN_API_KEY")

#: Requests per second of each application, and how many of them at once. 0: no limit.
RATE_LIMIT = env.float("RATE_LIMIT", 0.0, validate=validate.Range(min=0, max=1_000_000))
RATE_LIMIT_BURST = env.int("RATE_LIMIT_BURST", 100, validate=validate.Range(min=1, max=1_000_000_000))

#: Open streams and long polls of each application, in each live process.
STREAMS_PER_APPLICATION = env.int("STREAMS_PER_APPLICATION", 5_000, validate=validate.Range(min=1, max=1_000_000))

#: True behind a proxy that terminates TLS and sets X-Forwarded-Proto.
HTTPS_ONLY = env.bool("HTTPS_ONLY", False)
SECURE_SSL_REDIRECT = HTTPS_ONLY
# Prometheus inside a cluster scrapes each pod, without TLS and without a proxy that could say so.
SECURE_REDIRECT_EXEMPT = [r"^metrics/?$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS_ONLY
SECURE_HSTS_PRELOAD = HTTPS_ONLY
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS_ONLY else None
SESSION_COOKIE_SECURE = HTTPS_ONLY
CSRF_COOKIE_SECURE = HTTPS_ONLY
X_FRAME_OPTIONS = "DENY"

# Django ---------------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_standardized_errors",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "chatsystem",
    "chatsystem.writelog",
    "chatsystem.backoffice",
    "chatsystem.website",
    "applications",
    "chats",
    "messages_app",
    "search",
    "live",
]

MIDDLEWARE = [
    "chatsystem.logs.middleware.RequestLog",
    "django.middleware.security.SecurityMiddleware",
    # Before the middleware that may answer by itself, with a 304 or for a refused host.
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chatsystem.api.middleware.content_security_policy",
    # Around everything that may answer by itself, so that a page of another origin can read these answers too.
    "chatsystem.api.cors.Cors",
    "chatsystem.api.middleware.ConditionalGet",
    "django.middleware.common.CommonMiddleware",
    "chatsystem.api.rate_limit.RateLimit",
    "django.middleware.csrf.CsrfViewMiddleware",
    "chatsystem.backoffice.middleware.Pages",
]
PAGE_MIDDLEWARE = [
    "chatsystem.api.static.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
#: The admin looks for its middleware in MIDDLEWARE.
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]

ROOT_URLCONF = "chatsystem.urls"
WSGI_APPLICATION = "chatsystem.wsgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

STATIC_URL = "static/"
#: The folder where collectstatic puts the admin's files. Unset: they are served from the installed packages.
STATIC_ROOT = env.str("STATIC_ROOT", None)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# Database -------------------------------------------------------------------------------------------------------------

DATABASES = {"default": database.parse(given("DATABASE_URL") or f"sqlite:///{quote(str(DATA_DIR.database))}")}

# Redis ----------------------------------------------------------------------------------------------------------------

# Quoted, since "#" and "%" have a meaning in URLs.
_socket = quote(str(DATA_DIR.redis_socket))
#: The Redis that `make run` starts when REDIS_URL is not set.
OWN_REDIS_URL = f"unix://{_socket}?db=0"

#: The durable state: numbers, write log, pending view. Do not share it with a cache that evicts. One Redis, several, a
#: Sentinel's service or a Cluster (docs/redis.md).
REDIS_URL = addresses.state_redis_url("REDIS_URL") or OWN_REDIS_URL
#: Seconds to wait for an answer of the state Redis.
REDIS_TIMEOUT = env.float("REDIS_TIMEOUT", 3.0, validate=validate.Range(min=0.1, max=3600))
#: Replicas that must have a write before it is acknowledged: all that may be promoted. With 0, a failover loses what
#: the promoted replica had not received.
REDIS_REPLICAS = env.int("REDIS_REPLICAS", 0, validate=validate.Range(min=0, max=100))
#: The cache, which may be lost or evicted at any time.
CACHE_URL = (
    addresses.redis_url("CACHE_URL") or addresses.first_server("REDIS_URL", "CACHE_URL") or f"unix://{_socket}?db=1"
)
#: Celery's broker.
BROKER_URL = (
    addresses.redis_url("CELERY_BROKER_URL")
    or addresses.first_server("REDIS_URL", "CELERY_BROKER_URL")
    or f"unix://{_socket}?db=2"
)

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "KEY_PREFIX": "cache",
        **addresses.for_django_redis(CACHE_URL),
    }
}
if CACHE_URL.startswith(addresses.SENTINEL):
    DJANGO_REDIS_CONNECTION_FACTORY = "django_redis.pool.SentinelConnectionFactory"

# Write log ------------------------------------------------------------------------------------------------------------

#: Undrained events of one application, and bytes of their texts. A write beyond either is answered 503. An empty log
#: must have room for the largest request, hence the minimums.
WRITE_LOG_MAX_EVENTS = env.int("WRITE_LOG_MAX_EVENTS", 100_000, validate=validate.Range(1_000, 2**53))
WRITE_LOG_MAX_BYTES = env.int("WRITE_LOG_MAX_BYTES", 64 * 1024 * 1024, validate=validate.Range(4 * 1024 * 1024, 2**53))
#: The functions that store the events: one for each level of a path, parents first (application, chat, message).
WRITE_LOG_PERSISTERS = ["applications.persist.write", "chats.persist.write", "messages_app.persist.write"]
#: The counts that are kept with the rows, parents first.
WRITE_LOG_COUNTS = ["chats.counts.CHATS_COUNT", "messages_app.counts.MESSAGES_COUNT"]

# Operations -----------------------------------------------------------------------------------------------------------

#: The jobs that can be started in the admin, in the order shown.
JOBS = ["chatsystem.writelog.jobs.DRAIN", "chatsystem.writelog.jobs.REPLAY", "chatsystem.writelog.jobs.RECOUNT"]
JOBS += ["search.jobs.REINDEX"]

# Search ---------------------------------------------------------------------------------------------------------------

#: The cluster's comma-separated addresses. Empty: search uses the embedded index.
ELASTICSEARCH_URL = addresses.elasticsearch_url("ELASTICSEARCH_URL")
#: Prefix of the names of indexes and aliases. Elasticsearch accepts lower case only.
ELASTICSEARCH_INDEX_PREFIX = env.str(
    "ELASTICSEARCH_INDEX_PREFIX",
    "chatsystem-messages",
    validate=validate.Regexp(
        r"(?ai)[a-z0-9][a-z0-9._-]{0,99}\Z", error="of letters, digits, '.', '_' and '-', a letter or digit first"
    ),
).lower()
#: Seconds to wait for an answer of the cluster.
ELASTICSEARCH_TIMEOUT = env.float("ELASTICSEARCH_TIMEOUT", 3.0, validate=validate.Range(min=0.1, max=3600))
#: Concurrent searches of one web process. One more is answered 503.
ELASTICSEARCH_SEARCHES = env.int("ELASTICSEARCH_SEARCHES", 4, validate=validate.Range(1, 1_000))
#: Primary shards and replicas of the index. `manage.py reindex` applies them. The cluster allows at most 1,024 shards.
ELASTICSEARCH_SHARDS = env.int("ELASTICSEARCH_SHARDS", 1, validate=validate.Range(1, 1_024))
#: At most this many, as long as there are nodes for them.
ELASTICSEARCH_REPLICAS = env.int("ELASTICSEARCH_REPLICAS", 1, validate=validate.Range(0, 100))

SEARCH_BACKEND = (
    "search.backends.elasticsearch.ElasticsearchBackend" if ELASTICSEARCH_URL else "search.backends.fts5.Fts5Backend"
)
SEARCH_INDEX_PATH = env.path("SEARCH_INDEX_PATH", DATA_DIR.search_index, validate=in_a_folder)

# Celery ---------------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = addresses.for_kombu(BROKER_URL)
# Celery reads the variable CELERY_BROKER_URL itself, without our spelling for kombu. These two settings override it.
CELERY_BROKER_READ_URL = CELERY_BROKER_WRITE_URL = CELERY_BROKER_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# Without the first two, a stale connection stops a worker for good (docs/reliability.md). A request waits at most 2 s
# for its hint to be sent, and a waiting worker notices within 1 + 2 * 2 s.
# Without ack_emulation, Redis keeps no record of running tasks. With it, a task whose acknowledgement could not be sent
# held its place in a worker until the next connection, and stopped the one process of the background queue. Hints may
# be lost.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 2,
    "health_check_interval": 2,
    "ack_emulation": False,
    **addresses.kombu_options(BROKER_URL),
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# No retries, so that a request never waits for the broker. The sweep replaces a hint that could not be sent.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Long tasks have their own queue and worker process, so that no drain waits behind them (docs/operations.md, "The two
# queues"). A worker that is started without --queues consumes both.
CELERY_TASK_QUEUES = [Queue(name, routing_key=name) for name in ("celery", "background")]
CELERY_TASK_ROUTES = {
    "search.*": {"queue": "background"},
    "writelog.reconcile": {"queue": "background"},
    "writelog.trim_feed": {"queue": "background"},
    "backoffice.run_job": {"queue": "background"},
}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "sweep-write-log": {"task": "writelog.sweep", "schedule": every(2), "options": {"expires": 10}},
    "sweep-search-outbox": {"task": "search.index_outbox", "schedule": every(2), "options": {"expires": 10}},
    "sample-totals": {"task": "writelog.sample", "schedule": every(2), "options": {"expires": 2}},
    "reconcile-counts": {"task": "writelog.reconcile", "schedule": every(30), "options": {"expires": 60}},
    "trim-feed": {"task": "writelog.trim_feed", "schedule": every(600), "options": {"expires": 60}},
}

# Website --------------------------------------------------------------------------------------------------------------

#: Whether /demo is served: a page on which people chat, for trials. `make run` sets it.
DEMO = env.bool("DEMO", False)

# Metrics --------------------------------------------------------------------------------------------------------------

#: The folder of the request metrics. Each web process of a host has its own file.
METRICS_DIR = env.path("METRICS_DIR", DATA_DIR.metrics, validate=for_a_folder)

# API ------------------------------------------------------------------------------------------------------------------

#: Maximum bytes of a request's body.
MAX_REQUEST_BYTES = MAX_BODY

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["chatsystem.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "chatsystem.api.negotiation.Negotiation",
    # Only the Accept header counts. DRF's `?format=` would answer 404 to a parameter that clients may use.
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "COMPACT_JSON": True,
    "DEFAULT_SCHEMA_CLASS": "chatsystem.api.openapi.generator.AutoSchema",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "chatsystem.api.exception_handler.ExceptionHandler",
    "ENABLE_IN_DEBUG_FOR_UNHANDLED_EXCEPTIONS": True,
}

#: The OpenAPI description, /openapi.json (docs/api.md).
SPECTACULAR_SETTINGS = {
    "TITLE": "chatsystem",
    "VERSION": chatsystem.__version__,
    "OAS_VERSION": "3.1.0",
    "DEFAULT_GENERATOR_CLASS": "chatsystem.api.openapi.generator.Generator",
    "PREPROCESSING_HOOKS": ["chatsystem.api.openapi.generator.without_trailing_slashes"],
    "POSTPROCESSING_HOOKS": [],
    # Requests have no read-only fields, and a PATCH requires the one field that can change.
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "TAGS": [
        {"name": "Applications", "description": "Each has a token, the key to its chats."},
        {"name": "Chats", "description": "Numbered 1, 2, 3 … in their application."},
        {"name": "Messages", "description": "Numbered 1, 2, 3 … in their chat; one by one or in batches."},
        {"name": "Search", "description": "Messages of one chat, one application, or all."},
        {"name": "Live", "description": "What is acknowledged, as it happens; and tickets for browsers."},
        {"name": "Service", "description": "Health, metrics, and this description."},
    ],
    "SORT_OPERATION_PARAMETERS": False,
}

# Logging --------------------------------------------------------------------------------------------------------------

LOGGING = logs.from_environ()

#: Seconds above which a request, a database statement, or a drain's transaction is logged as slow.
SLOW_REQUEST_SECONDS = env.float("SLOW_REQUEST_SECONDS", 1.0, validate=validate.Range(0, 1_000_000))
SLOW_QUERY_SECONDS = env.float("SLOW_QUERY_SECONDS", 0.5, validate=validate.Range(0, 1_000_000))
SLOW_DRAIN_SECONDS = env.float("SLOW_DRAIN_SECONDS", 1.0, validate=validate.Range(0, 1_000_000))
