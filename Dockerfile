# One image, several commands. The default is web; docker-compose.yml has those of worker, background, beat and migrate.
# Documented in docs/docker.md.

FROM python:3.13-slim-trixie AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libmariadb-dev pkg-config
# The venv has no pip: nothing is installed into a running container.
RUN python -m venv --without-pip /venv
COPY requirements/server.lock /tmp/
RUN python -m pip --python /venv/bin/python install --no-cache-dir --require-hashes --requirement /tmp/server.lock

FROM python:3.13-slim-trixie
# The library that mysqlclient is linked with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent chatsystem
COPY --from=builder /venv /venv
# Unbuffered, so that the container's log shows each line at once, including the last ones of a killed process.
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
# Failures in the start period do not count: on a busy machine, a start took more than a minute.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-m", "chatsystem.server.healthcheck"]
# No shell and no init in front: gunicorn (Celery in the other commands) is process 1. It handles SIGTERM itself and waits
# for its children, the only other processes.
CMD ["gunicorn", "--config", "python:chatsystem.server.gunicorn", "--bind", "0.0.0.0:8000", "chatsystem.wsgi"]
