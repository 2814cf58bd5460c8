# The command line, the browser app and `longleaf serve`; docs/docker.md tells how to use them.
#
#   docker build -t longleaf .
#   docker run --rm -v longleaf-models:/models longleaf model pull embedded
#   docker run -p 127.0.0.1:8501:8501 -e LONGLEAF_PASSWORD=... -v longleaf-models:/models -v longleaf-library:/library longleaf
#
# Inside a container the app listens on 0.0.0.0, where others can reach it: it asks everybody for LONGLEAF_PASSWORD, and
# does not start without one (a terminal, docker run -it, is asked for it). `serve` wants LONGLEAF_API_KEYS likewise.
#
# Build arguments:
#   DEVICE=cpu|cuda   cuda takes PyPI's torch, which brings CUDA along, and runs the reader on the GPU
#   TORCH_INDEX=URL   another package index for torch alone; `pip` means the one that pip is set up to use
#   EXTRAS=a,b        of pyproject.toml's optional dependencies; add pgvector for LONGLEAF_VECTOR_STORE
#   WITH_EMBEDDED_MODELS=yes   puts the embedded reader and embedder (1.2 GB) into the image, for machines without a network

ARG DEVICE=cpu

# Debian's own Python in both stages: the virtual environment is copied from one to the other and has to find the same.
FROM debian:bookworm-slim AS builder
# Each release of Debian has one version of a package and its security updates, which are wanted: nothing to pin.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/longleaf
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build

# torch first and by itself: it is nine tenths of the download, and no other package may come from its index.
ARG DEVICE
ARG TORCH_INDEX
COPY constraints.txt ./
RUN case "$DEVICE:$TORCH_INDEX" in \
      cpu:) set -- --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda:|cpu:pip|cuda:pip) set -- ;; \
      cpu:*|cuda:*) set -- --index-url "$TORCH_INDEX" ;; \
      *) echo "DEVICE=$DEVICE: it is cpu or cuda" >&2; exit 1 ;; \
    esac \
 && /opt/longleaf/bin/pip install --no-deps -c constraints.txt "$@" torch

COPY pyproject.toml setup.py README.md LICENSE ./
COPY src ./src
COPY app ./app
COPY ingestion ./ingestion
COPY model ./model
COPY retrieval ./retrieval
# pip goes on without the CPU kernels where they can't be compiled; an image without them would be many times slower.
ARG EXTRAS=app,ocr,serve,oidc,endpoints
RUN /opt/longleaf/bin/pip wheel --no-deps -w /wheels . \
 && /opt/longleaf/bin/pip install -c constraints.txt "$(echo /wheels/longleaf-*.whl)[$EXTRAS]" \
 && test -n "$(find /opt/longleaf -name '_native_generic*.so')" \
 && /opt/longleaf/bin/pip check


FROM debian:bookworm-slim
ARG DEVICE
# ca-certificates: for downloads of models. tini: passes signals on, and ends what a parser that was stopped leaves
# behind. Triton compiles its launchers while it runs, and only on a GPU.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 tesseract-ocr tini \
 && if [ "$DEVICE" = cuda ]; then apt-get install -y --no-install-recommends gcc libc6-dev python3-dev; fi \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --user-group --create-home longleaf \
 && install -d -o longleaf -g longleaf /library /models /work

COPY --from=builder /opt/longleaf /opt/longleaf
COPY docker/healthcheck.py /usr/local/lib/longleaf/healthcheck.py
ENV PATH=/opt/longleaf/bin:$PATH LONGLEAF_HOME=/library LONGLEAF_MODELS_DIR=/models LONGLEAF_DEVICE=$DEVICE
USER 1000:1000
WORKDIR /work

# Not by default: weights change less often than the image, and one volume of them serves every image and container.
ARG WITH_EMBEDDED_MODELS=no
RUN if [ "$WITH_EMBEDDED_MODELS" = yes ]; then longleaf model pull embedded; fi

# Documents, chats and readings; weights. A new volume starts with what the image has there.
VOLUME ["/library", "/models"]
EXPOSE 8501 8000
LABEL org.opencontainers.image.title="Longleaf" \
      org.opencontainers.image.description="Answers questions about long PDFs, with page citations checked against the page." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/docker.md"

# Whichever of the two runs, on its own port: the app or `serve`.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python3", "/usr/local/lib/longleaf/healthcheck.py", "http://127.0.0.1:8501/_stcore/health", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["tini", "--", "longleaf"]
CMD ["app", "--host", "0.0.0.0"]
