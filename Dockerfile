# Debian with a compiler: where Faust has no wheel (Linux on ARM), it is built here.
FROM python:3.11.11-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/parcours
WORKDIR /src
# What changes seldom comes first, so that a change of the code does not install its dependencies anew.
COPY requirements.lock ./
RUN /opt/parcours/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY models ./models
COPY attribution ./attribution
COPY streams ./streams
RUN /opt/parcours/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11.11-slim-bookworm
ENV PATH=/opt/parcours/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PARCOURS_DATA_DIR=/var/lib/parcours \
    PARCOURS_WEB_HOST=0.0.0.0 \
    PARCOURS_WEB_PORT=6066
RUN groupadd --system --gid 10001 parcours \
    && useradd --system --uid 10001 --gid parcours --no-create-home --shell /usr/sbin/nologin parcours \
    && install --directory --owner=parcours --group=parcours /var/lib/parcours
COPY --from=build /opt/parcours /opt/parcours
WORKDIR /var/lib/parcours
VOLUME /var/lib/parcours
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PARCOURS_WEB_PORT']}/livez\", timeout=4)"]
USER 10001:10001
ENTRYPOINT ["parcours"]
CMD ["worker"]
