"""Score a folder of videos into a submission. What lies behind this door: `visavox/commands/evaluate.py`.

python eval.py -input VIDEOS -output submission.csv
python eval.py --input VIDEOS --output submission.csv --checkpoint runs/v1/best.ckpt --labels labels.csv
"""

import sys

from visavox.commands.evaluate import main
from visavox.commands.scoring import score_inputs

__all__ = ["main", "score_inputs"]

if __name__ == "__main__":
    sys.exit(main())
