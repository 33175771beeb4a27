# edgeattn on a CPU, in the locked versions, to export, check and measure on a machine without Python:
#
#   docker build -t edgeattn .
#   docker run --rm -v "$PWD:/work" edgeattn export net.py:build --out b
#
# The recipe of make is run by `make demo` on every machine; the image itself was not built by this project's tests.
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/edgeattn
COPY . .
RUN make .venv/.demo && rm -rf ~/.cache
ENV PATH="/opt/edgeattn/.venv/bin:$PATH"
WORKDIR /work
ENTRYPOINT ["edgeattn"]
