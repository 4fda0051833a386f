# One image, several commands: web is the default; docker-compose.yml names those of worker, beat and migrate.
# Documented in docs/operations.md.

FROM python:3.13-slim-trixie AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libmariadb-dev pkg-config
# The venv has no pip of its own: nothing is installed into a container that runs.
RUN python -m venv --without-pip /venv
COPY requirements/server.lock /tmp/
RUN python -m pip --python /venv/bin/python install --no-cache-dir --require-hashes --requirement /tmp/server.lock

FROM python:3.13-slim-trixie
# What mysqlclient was linked with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent chatsystem
COPY --from=builder /venv /venv
# Unbuffered: a container's log shows a line when it is written, and the last ones of a process that was killed.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOG_FORMAT=json \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=131072 \
    STATIC_ROOT=/static \
    METRICS_DIR=/tmp/metrics
WORKDIR /app
COPY . .
RUN python -m compileall -q . && python manage.py collectstatic --no-input
USER chatsystem
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "chatsystem.live"]
# No shell and no init before it: gunicorn, as Celery in the other commands, is process 1, takes SIGTERM itself, and waits
# for its children, the only ones there are.
CMD ["gunicorn", "--config", "python:chatsystem.gunicorn_config", "--bind", "0.0.0.0:8000", "chatsystem.wsgi"]
