# The gateway, the feature process and the reconciler: one image, the module is the command. From the repository's root:
#   docker build -f deploy/docker/longtail.Dockerfile -t longtail .
FROM python:3.11.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY ranking ranking
COPY training training
COPY deploy deploy
COPY services services
COPY cli cli
COPY protos protos
RUN python -m venv /opt/longtail && /opt/longtail/bin/pip install --no-cache-dir -c constraints.txt '.[otlp]'

FROM python:3.11.11-slim-bookworm
# libgomp1: LightGBM's OpenMP. Debian's point releases replace the version, so naming one would break the build.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home longtail && install -d -o 1000 -g 1000 /state
COPY --from=build /opt/longtail /opt/longtail
COPY feature_repo /opt/longtail/feature_repo
ENV PATH=/opt/longtail/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LONGTAIL_HOME=/state \
    LONGTAIL_FEATURE_REPO=/opt/longtail/feature_repo
USER 1000
WORKDIR /state
ENTRYPOINT ["python", "-m"]
CMD ["services.gateway"]
