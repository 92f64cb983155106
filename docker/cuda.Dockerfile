# xpnet on an NVIDIA GPU. Checked with hadolint; not yet built by anybody.
# The host needs the NVIDIA driver (525 or newer) and the NVIDIA Container Toolkit.
#   docker build -f docker/cuda.Dockerfile -t xpnet:cuda .
#   docker run --rm --gpus all xpnet:cuda doctor
#   docker run --rm --gpus all -v xpnet-runs:/home/xpnet/runs xpnet:cuda train
#
# No CUDA base image: the cuda12 extra brings cuBLAS, NVRTC and the headers as wheels, the host brings the driver.
FROM python:3.13-slim

WORKDIR /src
COPY . .
# The package of this very folder: there is no version to pin.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[cuda12,plots]"

# The user owns runs and caches; a named volume takes over its folder's owner.
RUN useradd --uid 1000 --create-home xpnet \
    && install --directory --owner=xpnet --group=xpnet /home/xpnet/runs /home/xpnet/.cache
USER 1000:1000
WORKDIR /home/xpnet
VOLUME ["/home/xpnet/runs", "/home/xpnet/.cache"]

# CuPy compiles its kernels on first use: kept with the other caches, so that a volume there saves the wait next time.
# NVIDIA's base images name the parts of the driver that a container gets; a plain image has to say so itself.
ENV CUPY_CACHE_DIR=/home/xpnet/.cache/cupy \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

ENTRYPOINT ["xpnet"]
CMD ["--help"]
