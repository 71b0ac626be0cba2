"""visavox synthetic --output DIR --identities 32 --clips 8 --seed 0"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from visavox import runs
from visavox.logs import complain, say


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="visavox synthetic",
        description="Make a folder of synthetic talking faces, real and fake, with labels.csv. For demos and tests: "
        "results on them say nothing about real deepfakes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write real/, fake/ and labels.csv in")
    parser.add_argument("--identities", type=int, default=32, help="how many people")
    parser.add_argument("--clips", type=int, default=8, help="clips of each, half of them fake")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(3.0, 4.0), metavar=("MIN", "MAX"), help="length of a clip"
    )
    parser.add_argument("--kinds", nargs="+", help="kinds of fake, all when left out")
    parser.add_argument(
        "--groups", type=int, help="groups of identities that borrow voices from each other; none: nobody does"
    )
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(argv)

    from visavox.synthetic.dataset import make_dataset
    from visavox.synthetic.fakes import KINDS

    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with runs.holding(options.output):
            labels = make_dataset(
                options.output,
                identities=options.identities,
                clips_per_identity=options.clips,
                seed=options.seed,
                seconds=tuple(options.seconds),
                kinds=options.kinds or KINDS,
                groups=options.groups,
                size=options.size,
                workers=options.workers,
            )
    except ValueError as error:
        parser.error(str(error))
    except (RuntimeError, OSError) as error:
        complain("visavox synthetic", error)
        return runs.exit_code(error)
    say(labels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
