# syntax=docker/dockerfile:1
# docker build -t saefari .
# docker run -v saefari:/data -v "$PWD:/in:ro" saefari build /in/papers.parquet
# docker run -v saefari:/data -p 127.0.0.1:8000:8000 saefari
# The build argument PIP_EXTRA_INDEX_URL may name an index with the CPU build of torch (README, "GPU"). Under a name
# other than localhost, list it and 127.0.0.1, which the health check uses, in SAEFARI_ALLOWED_HOSTS.

FROM python:3.12-slim AS build
ARG HARDWARE=cpu
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/saefari
ENV PATH=/opt/saefari/bin:$PATH
WORKDIR /src
COPY . .
RUN pip install --constraint constraints.txt ".[$HARDWARE]"

FROM python:3.12-slim
ENV PATH=/opt/saefari/bin:$PATH PYTHONUNBUFFERED=1 SAEFARI_HOME=/data
RUN useradd --create-home --uid 10001 saefari && install -d -o saefari -g saefari /data
COPY --from=build /opt/saefari /opt/saefari
USER saefari
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/live', timeout=4)"]
ENTRYPOINT ["saefari"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
