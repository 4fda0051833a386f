"""`make audit`: checks all.lock for known vulnerabilities in the OSV database.

Exits with 1 if it finds one, or if a package could not be audited. If OSV is unreachable, it prints a warning and exits
with 0: a build must not fail because of a missing network.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

LOCK = Path(__file__).parent / "all.lock"
#: pip-audit's own variable. Not PyPI, its default: a mirror of PyPI without advisories would pass every package.
OSV_URL = os.environ.setdefault("PIP_AUDIT_OSV_URL", "https://api.osv.dev/v1/query")
AUDIT = [
    *(sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--progress-spinner", "off"),
    *("--vulnerability-service", "osv", "--format", "json", "--desc", "off"),
]
#: A package with known vulnerabilities. A service that does not report them cannot be trusted about other packages.
CANARY = {"package": {"name": "django", "ecosystem": "PyPI"}, "version": "1.0"}


class Unreachable(Exception):
    """The service cannot be reached, or does not know the canary."""


def expect_service() -> None:
    """Raises Unreachable, with the reason, unless the service reports the canary."""
    request = urllib.request.Request(OSV_URL, json.dumps(CANARY).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            known = json.load(response).get("vulns")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(str(error)) from error
    if not known:
        raise Unreachable("it does not report the vulnerabilities of Django 1.0")


def main() -> int:
    try:
        expect_service()
    except Unreachable as reason:
        print(f"NOT AUDITED: {OSV_URL} cannot be used ({reason}).", file=sys.stderr)
        print(
            "No package was checked for vulnerabilities. Next: run `make audit` where that address is reachable.",
            file=sys.stderr,
        )
        return 0
    run = subprocess.run(AUDIT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(run.stdout)["dependencies"]
    except ValueError:
        print(run.stderr, file=sys.stderr)
        return 1
    found = [(package, vulnerability) for package in packages for vulnerability in package.get("vulns", [])]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}", file=sys.stderr)
    skipped = [f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package]
    for reason_given in skipped:
        print(f"not audited: {reason_given}", file=sys.stderr)
    print(f"{len(packages)} packages of {LOCK.name} audited: {len(found)} known vulnerabilities.")
    return 1 if found or skipped else 0


if __name__ == "__main__":
    sys.exit(main())
