# syntax=docker/dockerfile:1
# Build:  docker build --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:<digest of the image that you checked> -t aihd .
# Run:    docker run --name aihd --init --network host --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#             -v aihd:/var/lib/aihd -v /etc/aihd:/etc/aihd:ro -v /nodo/storage:/nodo/storage --stop-timeout 300 aihd
# The folder /etc/aihd holds aihd.toml and the mnemonic's file (mode 0600, owner 10001). The host's network is where nodo's
# gateway listens; the page for operators stays on loopback.

# Both stages come from this one image. A tag moves: give the digest for anything that holds money.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/aihd
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY proto proto
COPY ergoscript ergoscript
COPY config config
COPY aihd aihd
RUN /opt/aihd/bin/pip install --no-cache-dir .

FROM ${PYTHON_IMAGE}
# A number that no package of the base image takes; the same from build to build, since files on the volume carry it.
RUN groupadd --system --gid 10001 aihd \
    && useradd --system --uid 10001 --gid aihd --home-dir /var/lib/aihd --shell /usr/sbin/nologin aihd \
    && install --directory --owner aihd --group aihd --mode 0700 /var/lib/aihd
COPY --from=build /opt/aihd /opt/aihd
ENV PATH=/opt/aihd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/aihd
VOLUME /var/lib/aihd
STOPSIGNAL SIGTERM
# Start syncs with the chain and reconciles every open task before it is healthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 CMD ["aihd", "status", "--quiet"]
ENTRYPOINT ["aihd"]
CMD ["run"]
