"""`python -m chatsystem.server.healthcheck [PORT PATH]`: ends with 0 when this container's server answers, else with 1.

What the image's HEALTHCHECK runs for the web process, and docker-compose.yml for the live process. Of the standard
library alone: no settings are read and no Django starts every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

#: Of the web process.
PORT, PATH = 8000, "/health/live"
TIMEOUT = 4.0


def headers() -> dict[str, str]:
    """Under a name that Django accepts and, where HTTPS_ONLY is set, as if TLS had ended before.

    It answers any other request with a 400 or a redirect.
    """
    names = [name.strip().removeprefix(".") for name in os.environ.get("ALLOWED_HOSTS", "").split(",") if name.strip()]
    return {"Host": names[0] if names and names[0] != "*" else "localhost", "X-Forwarded-Proto": "https"}


def answers(port: int = PORT, path: str = PATH) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers=headers())
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    given = (int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else (PORT, PATH)
    sys.exit(0 if answers(*given) else 1)
