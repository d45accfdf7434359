# Triton's official image with what the models' model.py imports. From the repository's root:
#   docker build -f deploy/docker/triton.Dockerfile -t longtail-triton .
#   docker build -f deploy/docker/triton.Dockerfile -t longtail-triton-cuda --build-arg RUNTIME=onnxruntime-gpu==1.31.1 .
FROM nvcr.io/nvidia/tritonserver:25.08-py3 AS build
ARG RUNTIME=onnxruntime
COPY constraints.txt /src/constraints.txt
RUN python3 -m pip install --no-cache-dir --target /opt/models -c /src/constraints.txt "$RUNTIME" numpy openvino

FROM nvcr.io/nvidia/tritonserver:25.08-py3
COPY --from=build /opt/models /opt/models
ENV PYTHONPATH=/opt/models \
    PYTHONDONTWRITEBYTECODE=1
USER 1000
EXPOSE 8001 8002
CMD ["tritonserver", "--model-repository=/state/triton/repository", "--model-control-mode=explicit", "--disable-auto-complete-config", \
    "--strict-readiness=false", "--exit-timeout-secs=5", "--allow-http=true", "--allow-metrics=true", "--log-format=ISO8601"]
