# The speech server as an image: no root inside, voices in /data, healthy once it speaks.
#   docker build -t openvalle:cpu .
#   docker build -t openvalle:cuda --build-arg TORCH=cu128 .        # run it with --gpus all
#   docker run --rm -p 127.0.0.1:8000:8000 -v openvalle:/data openvalle:cpu
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# cpu, or the CUDA version of PyTorch's wheels, which bring all of CUDA that is needed beside the driver
ARG TORCH=cpu
WORKDIR /build
RUN python -m venv /opt/openvalle
ENV PATH=/opt/openvalle/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt .
RUN pip install --constraint constraints.txt --index-url https://download.pytorch.org/whl/${TORCH} torch
COPY pyproject.toml README.md LICENSE NOTICE MANIFEST.in ./
COPY src src
RUN pip install --constraint constraints.txt '.[server,media]'

FROM python:${PYTHON}-slim
COPY --from=build /opt/openvalle /opt/openvalle
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin openvalle \
    && install --directory --owner=openvalle --group=openvalle /data
ENV PATH=/opt/openvalle/bin:$PATH OPENVALLE_HOME=/data PYTHONUNBUFFERED=1
USER openvalle
VOLUME /data
EXPOSE 8000 10200
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["openvalle"]
CMD ["serve", "--host", "0.0.0.0"]
