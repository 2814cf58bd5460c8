# The command line and the browser app with the embedded model, on a CPU.
#   docker build -t longleaf .
#   docker run -it -p 127.0.0.1:8501:8501 -v longleaf:/data longleaf
FROM python:3.12-slim

RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 tesseract-ocr \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /longleaf
COPY . .
# PyPI's torch for Linux brings CUDA along; the CPU build is a tenth of its size. The compiler is for the CPU kernels.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[app,ocr]' \
 && apt-get purge -y --auto-remove gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*

# Library and models live in the volume, so that both outlast the container.
ENV LONGLEAF_HOME=/data/library LONGLEAF_MODELS_DIR=/data/models
RUN useradd --create-home longleaf && mkdir /data && chown longleaf /data
USER longleaf
VOLUME /data
EXPOSE 8501

ENTRYPOINT ["longleaf"]
CMD ["app", "--host", "0.0.0.0"]
