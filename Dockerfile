# CPU:  docker build -t dreamworld .
# GPU:  docker build -t dreamworld --build-arg EXTRAS=all,cuda .     (CUDA comes with JAX's wheels; the host brings the driver)
# Run:  docker run --rm [--gpus all] -v "$PWD/runs:/runs" dreamworld train --configs debug --logdir /runs/debug
FROM python:3.12-slim
ARG EXTRAS=all

# Rendering without a display: EGL for MuJoCo, GLU and glib for the simulators of the extras. Their versions are those of
# the base image's Debian.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends \
        libegl1 libgl1 libglib2.0-0 libglu1-mesa libosmesa6 && \
    rm -rf /var/lib/apt/lists/*

COPY pyproject.toml README.md LICENSE /opt/dreamworld/
COPY agents /opt/dreamworld/agents
COPY configs /opt/dreamworld/configs
COPY dreamworld /opt/dreamworld/dreamworld
COPY envs /opt/dreamworld/envs
COPY scripts /opt/dreamworld/scripts
RUN pip install --no-cache-dir "/opt/dreamworld[${EXTRAS}]"

RUN useradd --create-home --uid 1000 dreamer && mkdir /runs && chown dreamer /runs
USER 1000
WORKDIR /runs
ENV MUJOCO_GL=egl NVIDIA_DRIVER_CAPABILITIES=all
ENTRYPOINT ["dreamworld"]
CMD ["--help"]
