# One step on Ascend NPUs:  docker build -f docker/npu.Dockerfile --build-arg COMPONENT=train -t pix2pixhd-train:npu .
# CANN_TAG, TORCH and TORCH_NPU belong together: tests/test_docker.py holds the table of rows that do.
ARG CANN_TAG=9.1.0-910b-ubuntu22.04-py3.11
ARG BASE_IMAGE=quay.io/ascend/cann:${CANN_TAG}
FROM ${BASE_IMAGE}

ARG COMPONENT
RUN case "$COMPONENT" in prepare|train|cluster|export|benchmark) ;; *) \
    echo "COMPONENT='$COMPONENT': add --build-arg COMPONENT=prepare, train, cluster, export or benchmark." >&2; exit 2;; esac

# On Kubernetes KFP replaces the base image's entry point, which sources CANN's set_env.sh. The step then lives on the
# same variables set by the base image as ENV (PATH, LD_LIBRARY_PATH, PYTHONPATH, ASCEND_*); a base without them is refused.
RUN if [ -z "$ASCEND_TOOLKIT_HOME" ] || [ -z "$LD_LIBRARY_PATH" ]; then \
    echo "BASE_IMAGE sets no CANN environment: take a quay.io/ascend/cann image." >&2; exit 2; fi

# An ARG is set while building only: without the host's driver, importing torch would fail on loading torch_npu.
ARG TORCH_DEVICE_BACKEND_AUTOLOAD=0
# torch is the CPU build, and torch_npu its back-end; steps without torch get neither.
ARG TORCH=2.13.0
ARG TORCH_NPU=2.13.0
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG REQUIREMENTS=components/${COMPONENT}/requirements.txt
COPY constraints.txt ${REQUIREMENTS} /tmp/
RUN sed -i "s/^torch==[^ ]*.*/torch==$TORCH\ntorch-npu==$TORCH_NPU/" /tmp/requirements.txt \
 && grep -o '^torch==[^ ]*' /tmp/requirements.txt \
    | xargs -r pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX_URL" \
 && pip install --no-cache-dir -r /tmp/requirements.txt -c /tmp/constraints.txt \
 && find "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
      -depth -type d \( -name tests -o -name test \) -exec rm -r {} +

# KFP's executor, which starts the step inside the image: it runs without kfp's dependencies, 6 MB instead of 90.
RUN pip install --no-cache-dir --no-deps kfp==2.17.0

# Any uid may run the image (docker --user, OpenShift): HOME is writable for all, and USER stands in for a passwd entry.
# CANN writes its logs below HOME, and ATC its kernel_meta into the working directory.
RUN mkdir -m 1777 /home/app
ENV HOME=/home/app USER=app PYTHONPATH=/app:${PYTHONPATH} PYTHONUNBUFFERED=1 \
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
# Not an ENTRYPOINT: the base image has one, and kfp's DockerRunner passes its `sh -c ...` as the command.
CMD ["sh", "-c", "exec python -m components.$COMPONENT --help"]
