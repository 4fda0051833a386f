"""`make audit`: asks OSV whether anything in all.lock has a known vulnerability.

Ends with 1 when something has, or when that could not be told of a package. Where OSV cannot be reached it says so, and
ends with 0: a build must not fail for a network that is not there.
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
#: pip-audit's own variable. OSV and not PyPI, its default: what a mirror of that has no advisories of is passed over.
OSV_URL = os.environ.setdefault("PIP_AUDIT_OSV_URL", "https://api.osv.dev/v1/query")
AUDIT = [
    *(sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--progress-spinner", "off"),
    *("--vulnerability-service", "osv", "--format", "json", "--desc", "off"),
]
#: What is known to be vulnerable: who knows nothing of it cannot be believed about the others.
CANARY = {"package": {"name": "django", "ecosystem": "PyPI"}, "version": "1.0"}


class NotReached(Exception):
    pass


def expect_service() -> None:
    """Raises NotReached, with the reason."""
    asked = urllib.request.Request(OSV_URL, json.dumps(CANARY).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=15) as answer:
            known = json.load(answer).get("vulns")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotReached(str(error)) from error
    if not known:
        raise NotReached("it knows nothing of Django 1.0's vulnerabilities")


def main() -> int:
    try:
        expect_service()
    except NotReached as reason:
        print(f"NOT AUDITED: {OSV_URL} cannot be asked from here ({reason}).", file=sys.stderr)
        print(
            "Nothing is known about vulnerabilities. Next: `make audit` where that address can be reached.",
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
