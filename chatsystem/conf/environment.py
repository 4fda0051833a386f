"""Reads the settings from the environment. Documented in docs/settings.md, "How settings are read".

An empty variable counts as unset, and blanks around a value are ignored. An invalid value raises a `StartupError`, one
sentence that names the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from environs import Env, EnvValidationError, ValidationError, validate

from chatsystem.conf.startup import StartupError

#: Prefixes of variables that configure Celery, gunicorn, pip, Python and others, and would change the product.
FOREIGN_PREFIXES = (
    "CELERY_",
    "DJANGO_",
    "GUNICORN_",
    "KOMBU_",
    "MARIADB_",
    "MYSQL_",
    "PIP_",
    "PROMETHEUS_",
    "PYTHON",
    "SUPERVISOR",
    "prometheus_",
)
#: Such variables without a prefix. Celery's command line and gunicorn read them.
FOREIGN = {
    "APP",
    "BROKER_URL",
    "CONFIG_MODULE",
    "FORWARDED_ALLOW_IPS",
    "LOADER",
    "RESULT_BACKEND",
    "SCRIPT_NAME",
    "SENDFILE",
    "SKIP_CHECKS",
    "WEB_CONCURRENCY",
}
#: Settings of the product whose names look like Celery's.
OURS = {"CELERY_BROKER_URL", "CELERY_BROKER_URL_FILE"}
#: Settings that are or contain a secret. A file may hold the value: NAME_FILE is its path.
SECRETS = (
    "ADMIN_API_KEY",
    "CACHE_URL",
    "CELERY_BROKER_URL",
    "DATABASE_URL",
    "ELASTICSEARCH_URL",
    "REDIS_URL",
    "SECRET_KEY",
)


def without_foreign(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the variables of other tools, which could change the product by accident."""
    return {
        name: value
        for name, value in environ.items()
        if name in OURS or not (name in FOREIGN or name.startswith(FOREIGN_PREFIXES))
    }


def given(name: str) -> str:
    """Returns the variable, or a secret's file, without blanks around it, or "" when it is unset."""
    value = os.environ.get(name, "").strip()
    # A path may begin or end with a blank.
    path = os.environ.get(f"{name}_FILE", "") if name in SECRETS else ""
    if not path.strip():
        return value
    if value:
        raise StartupError(f"{name} and {name}_FILE are both set; unset one of them.")
    return _from_file(name, path)


def _from_file(name: str, path: str) -> str:
    try:
        value = Path(path).expanduser().read_text("utf-8").strip()
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except (RuntimeError, ValueError):
        reason = "cannot be read (not a path, or not a file of text)"
    else:
        if value:
            return value
        # Not "unset": an empty ADMIN_API_KEY would open the routes that it protects.
        reason = "is empty"
    raise StartupError(f"{name}_FILE names {path!r}, which {reason}; name a file that holds the value of {name}.")


def _reader(method: Any, expected: str) -> Any:
    """Wraps a method of environs: it returns the default for an unset variable and raises a StartupError."""

    def read(self: Env, name: str, default: Any, **options: Any) -> Any:
        if not given(name):
            return default
        if method is not Env.path:
            # A file name may begin or end with a blank.
            os.environ[name] = given(name)
        try:
            return method(self, name, **options)
        except EnvValidationError as error:
            raise wrong(name, f"{expected}{_rule(options.get('validate'), error)}", default) from None

    return read


def _rule(check: object, error: EnvValidationError) -> str:
    """Describes the validator's rule. Validators other than Range have their own message."""
    if isinstance(check, validate.Range):
        return f" from {check.min} to {check.max}"
    return f" {' '.join(error.error_messages)}" if check else ""


def in_a_folder(path: Path) -> None:
    """Validator: the file exists or can be created."""
    if os.path.isdir(path) or not os.path.isdir(path.parent) or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValidationError("of a file in an existing, writable folder")


def for_a_folder(path: Path) -> None:
    """Validator: the folder exists and is writable, or can be created with its parents."""
    # os.path treats a folder below an unreadable one as absent; pathlib would raise.
    found = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise ValidationError("of a writable folder")


def wrong(name: str, expected: str, default: object) -> StartupError:
    """Returns the error for an invalid value. It quotes the value, so it is only for settings that hold no secret."""
    shown = (
        str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else default
    )
    return StartupError(f"{name} has to be {expected}, not {given(name)!r}; leave it unset for {shown}.")


class Environment(Env):
    """Reads typed variables: `env.int("WORKERS", 5, validate=validate.Range(1, 64))`."""

    bool = _reader(Env.bool, "true or false")
    float = _reader(Env.float, "a number")
    int = _reader(Env.int, "a whole number")
    path = _reader(Env.path, "a path")
    str = _reader(Env.str, "text")

    def words(self, name: Any, default: Any) -> Any:
        """Returns a comma-separated list, without empty entries and blanks around an entry."""
        return [entry for entry in map(str.strip, given(name).split(",")) if entry] or default

    def choice(self, name: Any, default: Any, choices: Any) -> Any:
        """Returns one of the choices, ignoring case."""
        for choice in choices:
            if given(name).lower() == choice.lower():
                return choice
        if not given(name):
            return default
        raise wrong(name, f"one of {', '.join(choices)}", default)


env = Environment()
