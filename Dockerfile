# The command line in an image: docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" IMAGE experiment=demo
# It was checked with hadolint; no image was built when it was written.
FROM python:3.11-slim

# git: the version comes from the tags
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY . .
RUN pip install --no-cache-dir -c constraints.txt . \
    && rm -rf /source

RUN useradd --create-home --uid 1000 researcher
USER 1000
WORKDIR /work
ENTRYPOINT ["medical-lightning"]
CMD ["--help"]
