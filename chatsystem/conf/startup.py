"""The error of a process that cannot start. Documented in docs/operations.md, "When it does not start"."""


class StartupError(SystemExit):
    """Ends the process with one sentence on stderr that names the wrong setting and the remedy, and with exit code 1.

    manage.py, gunicorn, a worker and beat all read the settings. They print a traceback for other exceptions, but not
    for a SystemExit.
    """
