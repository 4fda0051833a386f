"""Set before Django reads its settings, which pytest-django does before any conftest: see `-p` in pyproject.toml."""

import os
import tempfile

#: Files and a state Redis of this run's own; gone with it.
folder = tempfile.TemporaryDirectory(prefix="chatsystem-tests-")

os.environ["DATA_DIR"] = folder.name
for name in ("DATABASE_URL", "REDIS_URL", "CACHE_URL", "CELERY_BROKER_URL", "ADMIN_API_KEY", "HTTPS_ONLY"):
    os.environ.pop(name, None)

#: An Elasticsearch for the tests that need one, in place of the node that they start.
elasticsearch_url = os.environ.pop("ELASTICSEARCH_URL", None)
