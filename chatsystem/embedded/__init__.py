"""`make run`: the whole product on one machine with nothing installed. Documented in docs/operations.md.

    make run ── runner ── supervisord ─┬─ redis-server       the state, the cache and the broker
                                       ├─ gunicorn           web
                                       ├─ celery worker      drains and indexes, WORKERS at once
                                       └─ celery beat        sweeps

Each process ends with its parent (tied.py), so no crash leaves one behind that holds DATA_DIR.
"""
