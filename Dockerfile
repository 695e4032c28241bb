# syntax=docker/dockerfile:1
# docker build -t saefari .
# docker run -v saefari:/data -v "$PWD:/in:ro" saefari build /in/papers.parquet
# docker run --read-only --tmpfs /tmp -v saefari:/data -p 127.0.0.1:8000:8000 saefari
# The build argument PIP_EXTRA_INDEX_URL may name an index with the CPU build of torch (README, "GPU"). Under a name
# other than localhost, say it in SAEFARI_PUBLIC_URL (docs/deploy.md).

FROM python:3.12-slim AS build
ARG HARDWARE=cpu
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/saefari
ENV PATH=/opt/saefari/bin:$PATH
WORKDIR /src
COPY . .
RUN pip install --constraint constraints.txt ".[$HARDWARE,otel,postgres]"

FROM python:3.12-slim
# Nothing is written outside /data and /tmp, so the root may be read-only.
ENV PATH=/opt/saefari/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SAEFARI_HOME=/data
RUN useradd --create-home --uid 10001 saefari && install -d -o saefari -g saefari /data
COPY --from=build /opt/saefari /opt/saefari
USER saefari
VOLUME /data
EXPOSE 8000
# A new server is ready when its collections are read: half a minute for the largest.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["saefari"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
