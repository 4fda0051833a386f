"""Sets the environment of the tests before Django reads its settings.

pytest-django reads them before any conftest, so pyproject.toml loads this module with `-p`, after memory.py.
DATABASE=mariadb or mysql runs the tests on a server of that kind; SQLite is the default. REDIS=valkey runs them on
Valkey.
"""

import os
import tempfile
from pathlib import Path

from tests.support.product import PATIENT, patient_database
from tests.support.services import valkey
from tests.support.services.database_server import DatabaseServer
from tests.support.services.mariadb import MariaDB
from tests.support.services.mysql import MySQL
from tests.support.services.packages import Missing

#: Files and a state Redis of this run's own; gone with it.
folder = tempfile.TemporaryDirectory(prefix="chatsystem-tests-")

os.environ["DATA_DIR"] = folder.name
for name in ("DATABASE_URL", "REDIS_URL", "CACHE_URL", "CELERY_BROKER_URL", "ADMIN_API_KEY", "HTTPS_ONLY"):
    os.environ.pop(name, None)

#: An Elasticsearch for the tests that need one, in place of the node that they start.
elasticsearch_url = os.environ.pop("ELASTICSEARCH_URL", None)

#: The tests' database server; None on SQLite. Its conftest fixture starts it.
server: DatabaseServer | None = None
#: Why it, or Valkey, is not there though it was asked for.
missing: Missing | None = None

#: Of the database in DATABASE_URL. The tests' own rows are in one that Django makes beside it.
NAME = "chat"

# As of the products that are started: no request may be refused because the machine stands still for some seconds.
os.environ.update(PATIENT)
#: Options of DATABASE_URL. Besides, a test may wait for other processes for longer than the server lets a connection
#: idle.
PATIENT_OPTIONS = patient_database(idle=3600)

SERVERS = {"mariadb": MariaDB, "mysql": MySQL}
DATABASE = os.environ.get("DATABASE", "sqlite")
if DATABASE != "sqlite":
    try:
        server = SERVERS[DATABASE](Path(folder.name) / DATABASE)
        os.environ["DATABASE_URL"] = server.url(NAME) + PATIENT_OPTIONS
    except Missing as error:
        missing = error

if os.environ.get("REDIS") == "valkey":
    try:
        valkey.use(Path(folder.name) / "bin")
    except Missing as error:
        missing = error


def database_url() -> str:
    """Returns the URL of the tests' database, for a process that shares it. Call it once Django has named it."""
    from django.conf import settings

    name = settings.DATABASES["default"]["NAME"]
    return server.url(name) + PATIENT_OPTIONS if server else f"sqlite:///{name}"
