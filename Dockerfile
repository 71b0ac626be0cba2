# The submission image: scores a folder of videos, without network.
#
#   docker build -t visavox .
#   docker run --rm --gpus '"device=0"' -v "$PWD/in:/data/input:ro" -v "$PWD/out:/data/output" \
#       visavox -input /data/input/ -output /data/output/submission.csv
#
# Beside this file lie model.ckpt, a checkpoint of train.py, and weights/, with the face detector's and SyncNet's weights
# under their registry names; what weights/ lacks is fetched while the image is built. Both are baked in, and the build
# fails where either cannot be had. tests/test_image.py carries these steps out.

FROM python:3.11-slim AS system
WORKDIR /app
# Nothing is written beside the code; what libraries cache goes to /tmp, and whoever runs it needs no name and no home.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp USER=visavox MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba \
    NO_ALBUMENTATIONS_UPDATE=1 VISAVOX_WEIGHTS=/app/weights
COPY requirements.lock ./
RUN pip install --no-cache-dir -r requirements.lock
COPY --chmod=755 visavox/ visavox/
COPY --chmod=755 eval.py ./
COPY --chmod=755 model.ckpt ./

# Of weights/ only what the configuration in model.ckpt names goes on into the image, once it is verified or fetched.
# (requirements.lock stands in the COPY for builders that want at least one file: weights/ may be absent.)
FROM system AS weighed
COPY requirements.lock weights* weights/
RUN mkdir needed && python -c "import shutil; from visavox import weights; from visavox.detectors.build import load; \
    from visavox.preprocessing.provenance import weights_of; \
    [shutil.copy(weights.resolve(name), 'needed') for name in weights_of(load('model.ckpt').config)]"

FROM system
COPY --from=weighed --chmod=755 /app/needed/ weights/
ENV VISAVOX_OFFLINE=1 HF_HUB_OFFLINE=1
RUN install -d -m 1777 /data/output
# No USER: a folder mounted at /data/output belongs to whoever made it, often root. `docker run --user` works too.
ENTRYPOINT ["python", "/app/eval.py"]
