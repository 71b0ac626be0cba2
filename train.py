"""Train a detector on bundles. What lies behind this door: `visavox/commands/train.py`.

python train.py --data-version train_dev_test --code-version v1 --pret-version timesformer_k400
python train.py --config configs/tiny.json --data-version train_dev_test --code-version tiny lr=3e-4 epoch=8
python train.py --code-version v1 --resume
"""

import sys

from visavox.commands.train import main, train

__all__ = ["main", "train"]

if __name__ == "__main__":
    sys.exit(main())
