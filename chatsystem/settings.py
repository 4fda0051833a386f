"""Settings. Every one comes from the environment; the defaults are the embedded profile (docs/operations.md).

Nothing exists in one profile only: `DATABASE_URL`, `REDIS_URL` and their siblings choose the parts.
"""

from pathlib import Path
from urllib.parse import quote

from django.core.management.utils import get_random_secret_key
from environs import Env, validate

from chatsystem import database
from chatsystem.data_dir import DataDir
from chatsystem.logs import config as logs
from chatsystem.steady import every

env = Env()

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = DataDir(Path(env.str("DATA_DIR", str(BASE_DIR / "data"))).resolve())


def kept_secret_key() -> str:
    """The key that `make run` keeps in DATA_DIR; a passing one where there is none yet (tests, makemigrations)."""
    if DATA_DIR.secret_key.exists():
        return DATA_DIR.secret_key.read_text().strip()
    return get_random_secret_key()


# Security -------------------------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = env.str("SECRET_KEY", "") or kept_secret_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])

#: Keys to the routes that cross applications (`Authorization: Bearer …`), with commas between; empty leaves them open.
ADMIN_API_KEY = env.str("ADMIN_API_KEY", "")

#: Requests a second that each application may make, and how many of them at once; 0 limits nothing.
RATE_LIMIT = env.float("RATE_LIMIT", 0.0, validate=validate.Range(min=0, max=1_000_000))
RATE_LIMIT_BURST = env.int("RATE_LIMIT_BURST", 100, validate=validate.Range(min=1))

#: Served through a proxy that ends TLS and sets X-Forwarded-Proto.
HTTPS_ONLY = env.bool("HTTPS_ONLY", False)
SECURE_SSL_REDIRECT = HTTPS_ONLY
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
    "applications",
    "chats",
    "messages_app",
    "search",
]

MIDDLEWARE = [
    "chatsystem.logs.middleware.RequestLog",
    "django.middleware.security.SecurityMiddleware",
    # Before whatever may answer by itself: a 304, a refused host.
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chatsystem.api.middleware.content_security_policy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "chatsystem.api.middleware.ConditionalGet",
    "chatsystem.backoffice.middleware.Sessions",
    "django.middleware.common.CommonMiddleware",
    "chatsystem.api.ratelimit.RateLimit",
    "django.middleware.csrf.CsrfViewMiddleware",
    "chatsystem.backoffice.middleware.Authentication",
    "chatsystem.backoffice.middleware.Messages",
]

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
#: Where collectstatic gathers the admin's files. Unset, they are served from where they are installed.
STATIC_ROOT = env.str("STATIC_ROOT", None)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# Database -------------------------------------------------------------------------------------------------------------

DATABASES = {"default": database.parse(env.str("DATABASE_URL", f"sqlite:///{quote(str(DATA_DIR.database))}"))}

# Redis ----------------------------------------------------------------------------------------------------------------

# In URLs, where a path's "#" or "%" would mean something else.
_socket = quote(str(DATA_DIR.redis_socket))


def for_kombu(url: str) -> str:
    """A Redis's URL as kombu spells it: like the others, but for a Unix socket's."""
    return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


#: The durable state: numbers, write log, pending view. Not to be shared with a cache that evicts.
REDIS_URL = env.str("REDIS_URL", "") or f"unix://{_socket}?db=0"
#: Seconds until an answer of the state Redis counts as lost.
REDIS_TIMEOUT = env.float("REDIS_TIMEOUT", 3.0, validate=validate.Range(min=0.1))
#: Replicas of it that must have a write before it is acknowledged: those that may take its place.
REDIS_REPLICAS = env.int("REDIS_REPLICAS", 0, validate=validate.Range(min=0))

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": env.str("CACHE_URL", "") or env.str("REDIS_URL", "") or f"unix://{_socket}?db=1",
        "KEY_PREFIX": "cache",
        "OPTIONS": {"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1},
    }
}

# Write log ------------------------------------------------------------------------------------------------------------

#: Events, and bytes of their texts, that one application may have undrained; a write beyond is answered 503. Whatever
#: one request may bring, an empty log must hold.
WRITE_LOG_MAX_EVENTS = env.int("WRITE_LOG_MAX_EVENTS", 100_000, validate=validate.Range(min=1_000))
WRITE_LOG_MAX_BYTES = env.int("WRITE_LOG_MAX_BYTES", 64 * 1024 * 1024, validate=validate.Range(min=4 * 1024 * 1024))
#: Who stores what: one entry for each depth of a path, parents first (application, chat, message).
WRITE_LOG_PERSISTERS = ["applications.persist.write", "chats.persist.write", "messages_app.persist.write"]
#: The counts that follow the rows, parents first.
WRITE_LOG_COUNTS = ["chats.counts.CHATS_COUNT", "messages_app.counts.MESSAGES_COUNT"]

# Operations -----------------------------------------------------------------------------------------------------------

#: What can be started in the admin, in the order in which it is offered.
JOBS = ["chatsystem.writelog.jobs.DRAIN", "chatsystem.writelog.jobs.REPLAY", "chatsystem.writelog.jobs.RECOUNT"]
JOBS += ["search.jobs.REINDEX"]

# Search ---------------------------------------------------------------------------------------------------------------

#: The cluster's address, or several with commas between; empty searches in the embedded index.
ELASTICSEARCH_URL = env.str("ELASTICSEARCH_URL", "")
#: What the names of its indexes and aliases begin with.
ELASTICSEARCH_INDEX_PREFIX = env.str("ELASTICSEARCH_INDEX_PREFIX", "chatsystem-messages")
#: Seconds until an answer of the cluster counts as lost.
ELASTICSEARCH_TIMEOUT = env.float("ELASTICSEARCH_TIMEOUT", 3.0, validate=validate.Range(min=0.1))
#: Searches that one web process has under way at most; one beyond is answered 503.
ELASTICSEARCH_SEARCHES = env.int("ELASTICSEARCH_SEARCHES", 4, validate=validate.Range(min=1))

SEARCH_BACKEND = (
    "search.backends.elasticsearch.ElasticsearchBackend" if ELASTICSEARCH_URL else "search.backends.fts5.Fts5Backend"
)
SEARCH_INDEX_PATH = env.path("SEARCH_INDEX_PATH", DATA_DIR.search_index)

# Celery ---------------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = for_kombu(env.str("CELERY_BROKER_URL", "") or env.str("REDIS_URL", "") or f"unix://{_socket}?db=2")
# Of CELERY_BROKER_URL Celery takes the environment's word, as it is spelt there, and not ours. These go before it.
CELERY_BROKER_READ_URL = CELERY_BROKER_WRITE_URL = CELERY_BROKER_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A connection that goes silent stops a worker for good without the first two (docs/reliability.md). A request
# waits 2 s at most until its hint is given up, and a worker that waits for hints notices within 1 + 2 * 2 s.
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 2, "health_check_interval": 2, "visibility_timeout": 300}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# A hint that cannot be sent is left to the sweep: a request never waits for the broker.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "sweep-write-log": {"task": "writelog.sweep", "schedule": every(2), "options": {"expires": 10}},
    "sweep-search-outbox": {"task": "search.sweep_outbox", "schedule": every(2), "options": {"expires": 10}},
    "sample-totals": {"task": "writelog.sample", "schedule": every(2), "options": {"expires": 2}},
    "reconcile-counts": {"task": "writelog.reconcile", "schedule": every(30), "options": {"expires": 60}},
}

# Metrics --------------------------------------------------------------------------------------------------------------

#: Where the web processes of a host count their requests, each in a file of its own.
METRICS_DIR = env.path("METRICS_DIR", DATA_DIR.metrics)

# API ------------------------------------------------------------------------------------------------------------------

#: Bytes that a request's body may have.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["chatsystem.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "chatsystem.api.negotiation.Negotiation",
    # The Accept header alone decides; DRF's `?format=` would make a 404 of a parameter that clients may use.
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "COMPACT_JSON": True,
    "DEFAULT_SCHEMA_CLASS": "chatsystem.api.openapi.schema.AutoSchema",
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "chatsystem.api.handler.ExceptionHandler",
    "ENABLE_IN_DEBUG_FOR_UNHANDLED_EXCEPTIONS": True,
}

#: The API's description, /openapi.json (docs/api.md).
SPECTACULAR_SETTINGS = {
    "TITLE": "chatsystem",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "DEFAULT_GENERATOR_CLASS": "chatsystem.api.openapi.schema.Generator",
    "PREPROCESSING_HOOKS": ["chatsystem.api.openapi.schema.once_and_in_order"],
    "POSTPROCESSING_HOOKS": [],
    # Read-only fields are no part of a request, and a PATCH needs the one field that can change.
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "TAGS": [
        {"name": "Applications", "description": "Each has a token, the key to its chats."},
        {"name": "Chats", "description": "Numbered 1, 2, 3 … in their application."},
        {"name": "Messages", "description": "Numbered 1, 2, 3 … in their chat; one by one or in batches."},
        {"name": "Search", "description": "Messages of one chat, one application, or all."},
        {"name": "Service", "description": "Health, metrics, and this description."},
    ],
    # As they are written: parents first. The hook sees to it.
    "SORT_OPERATIONS": False,
    "SORT_OPERATION_PARAMETERS": False,
}

# Logging --------------------------------------------------------------------------------------------------------------

LOGGING = logs.from_environ()

#: Seconds above which a line tells of it: of a request, a statement of the database, a transaction of a drain.
SLOW_REQUEST_SECONDS = env.float("SLOW_REQUEST_SECONDS", 1.0, validate=validate.Range(min=0))
SLOW_QUERY_SECONDS = env.float("SLOW_QUERY_SECONDS", 0.5, validate=validate.Range(min=0))
SLOW_DRAIN_SECONDS = env.float("SLOW_DRAIN_SECONDS", 1.0, validate=validate.Range(min=0))
