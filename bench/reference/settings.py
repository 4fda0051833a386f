"""The product's settings, without those that a simple project does not need."""

from chatsystem.settings import *  # noqa: F403
from chatsystem.settings import ELASTICSEARCH_URL, INSTALLED_APPS

ROOT_URLCONF = "bench.reference.urls"
MIDDLEWARE = []
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}

# Celery's defaults instead of the product's values.
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_TASK_PUBLISH_RETRY = True

if ELASTICSEARCH_URL:
    INSTALLED_APPS += ["django_elasticsearch_dsl", "bench.reference"]
    ELASTICSEARCH_DSL = {"default": {"hosts": ELASTICSEARCH_URL.split(",")}}
    # By default the cluster refreshes the index for each message, before the task ends.
    ELASTICSEARCH_DSL_AUTO_REFRESH = False
