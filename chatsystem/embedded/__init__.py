"""`make run`: the whole product on one machine, with nothing to install. Documented in docs/operations.md.

    make run ── runner ── supervisord ─┬─ redis-server       the state, the cache and the broker
                                       ├─ gunicorn           web
                                       ├─ celery worker      drains, WORKERS - 1 at once
                                       ├─ celery background  indexes, counts, runs jobs, one at a time
                                       └─ celery beat        sweeps

Each process ends with its parent (parent_death.py), so no crash leaves a process behind that holds DATA_DIR.

supervisord restarts the programs, rotates their logs and stops them in order. The runner talks to the user and restarts
supervisord. docs/decisions.md says why both are needed.
"""
