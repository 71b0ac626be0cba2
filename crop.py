"""Videos -> bundles. What lies behind this door: `visavox/commands/crop.py`; one video is `visavox/preprocessing/pipeline.py`.

python crop.py --workers 4 --input VIDEOS --output BUNDLES
python crop.py --input clip.mp4 --output BUNDLES --save-image --save-avi --config configs/tiny.json face_max_size=480
"""

import sys

from visavox.commands.crop import Task, crop_folder, crop_task, main
from visavox.preprocessing.pipeline import crop_video, explain
from visavox.preprocessing.provenance import weights_of
from visavox.preprocessing.tools import Tools, build_tools, check_tools, needs_torch, owned_networks

__all__ = [
    "Task",
    "Tools",
    "build_tools",
    "check_tools",
    "crop_folder",
    "crop_task",
    "crop_video",
    "explain",
    "main",
    "needs_torch",
    "owned_networks",
    "weights_of",
]

if __name__ == "__main__":
    sys.exit(main())
