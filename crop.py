"""Videos -> bundles. What lies behind this door: `visavox/commands/crop.py`; one video is `visavox/preprocessing/pipeline.py`.

python crop.py --workers 4 --input VIDEOS --output BUNDLES
python crop.py --input clip.mp4 --output BUNDLES --save-image --save-avi --config configs/tiny.json face_max_size=480
"""

import sys

from visavox.commands.crop import Task, crop_folder, crop_task, main
from visavox.preprocessing.pipeline import Preprocessor, explain
from visavox.preprocessing.provenance import weights_of
from visavox.preprocessing.tools import build, check_weights

__all__ = [
    "Preprocessor",
    "Task",
    "build",
    "check_weights",
    "crop_folder",
    "crop_task",
    "explain",
    "main",
    "weights_of",
]

if __name__ == "__main__":
    sys.exit(main())
