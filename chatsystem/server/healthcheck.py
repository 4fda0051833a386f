"""`python -m chatsystem.server.healthcheck`: ends with 0 when the web process of this container answers, else with 1.

What the image's HEALTHCHECK runs. Of the standard library alone: no settings are read and no Django starts every few
seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

PORT = 8000
TIMEOUT = 4.0


def headers() -> dict[str, str]:
    """Under a name that Django accepts and, where HTTPS_ONLY is set, as if TLS had ended before.

    It answers any other request with a 400 or a redirect.
    """
    names = [name.strip().removeprefix(".") for name in os.environ.get("ALLOWED_HOSTS", "").split(",") if name.strip()]
    return {"Host": names[0] if names and names[0] != "*" else "localhost", "X-Forwarded-Proto": "https"}


def answers() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health/live", headers=headers())
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers() else 1)
