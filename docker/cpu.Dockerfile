# One step on CPU:  docker build -f docker/cpu.Dockerfile --build-arg COMPONENT=train -t pix2pixhd-train:cpu .
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ARG COMPONENT
RUN case "$COMPONENT" in prepare|train|cluster|export|benchmark) ;; *) \
    echo "COMPONENT='$COMPONENT': add --build-arg COMPONENT=prepare, train, cluster, export or benchmark." >&2; exit 2;; esac

# torch alone comes from the index of CPU builds; PyPI's build of the same version carries 4 GB of CUDA libraries.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG REQUIREMENTS=components/${COMPONENT}/requirements.txt
COPY constraints.txt ${REQUIREMENTS} /tmp/
RUN grep -o '^torch==[^ ]*' /tmp/requirements.txt \
    | xargs -r pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX_URL" \
 && pip install --no-cache-dir -r /tmp/requirements.txt -c /tmp/constraints.txt \
 && find "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
      -depth -type d \( -name tests -o -name test \) -exec rm -r {} +

# KFP's executor, which starts the step inside the image: it runs without kfp's dependencies, 6 MB instead of 90.
RUN pip install --no-cache-dir --no-deps kfp==2.17.0

# Any uid may run the image (docker --user, OpenShift): HOME is writable for all, and USER stands in for a passwd entry.
RUN mkdir -m 1777 /home/app
ENV HOME=/home/app USER=app PYTHONPATH=/app PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet MLFLOW_DISABLE_TELEMETRY=true COMPONENT=${COMPONENT}
WORKDIR /home/app

# Of the other steps too: the first task of a pipeline checks all configs.
COPY components /app/components
COPY shared /app/shared

# The commit, for MLflow's tags: the last layer, because it changes with every build.
ARG CODE_VERSION=""
ENV CODE_VERSION=${CODE_VERSION}
LABEL org.opencontainers.image.title="pix2pixhd-${COMPONENT}" org.opencontainers.image.revision="${CODE_VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"

USER 1000
# Not an ENTRYPOINT: kfp's DockerRunner passes its `sh -c ...` as the command, and an entry point would swallow it.
CMD ["sh", "-c", "exec python -m components.$COMPONENT --help"]
