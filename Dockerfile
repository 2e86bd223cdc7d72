# One image for every process: the command selects it.
FROM python:3.12.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PYTHONPATH=/app \
    BIGWORLD_HOME=/data BIGWORLD_BIND=0.0.0.0 BIGWORLD_LOG_FORMAT=json

WORKDIR /app
COPY requirements.lock .
RUN pip install --require-hashes -r requirements.lock \
    && useradd --system --uid 10001 --home-dir /data --create-home bigworld
COPY . .

USER bigworld
VOLUME /data
EXPOSE 2580
ENTRYPOINT ["python", "-m", "service.cli.app"]
CMD ["serve"]
