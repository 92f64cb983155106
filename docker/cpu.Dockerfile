# xpnet on the CPU. Checked with hadolint; not yet built by anybody.
#   docker build -f docker/cpu.Dockerfile -t xpnet:cpu .
#   docker run --rm -v xpnet-runs:/home/xpnet/runs xpnet:cpu train
FROM python:3.13-slim

WORKDIR /src
COPY . .
# The package of this very folder: there is no version to pin.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[plots]"

# The user owns runs and caches (downloaded data, matplotlib's fonts); a named volume takes over its folder's owner.
RUN useradd --uid 1000 --create-home xpnet \
    && install --directory --owner=xpnet --group=xpnet /home/xpnet/runs /home/xpnet/.cache
USER 1000:1000
WORKDIR /home/xpnet
VOLUME ["/home/xpnet/runs", "/home/xpnet/.cache"]

ENTRYPOINT ["xpnet"]
CMD ["--help"]
