"""The one command of Visavox: `visavox NAME ...` and `python -m visavox NAME ...` run the same programs.

Without a name the commands are listed, a line each; `visavox NAME --help` explains one. Exit codes are those of the command;
2 where there is no such command; 130 after Ctrl-C, 143 after SIGTERM, when what was begun has been cleaned up.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from visavox import runs
from visavox.logs import say


class Command(NamedTuple):
    """One program behind the front door."""

    module: str
    """Where its `main(argv) -> int` is; imported when it is asked for."""
    summary: str
    """What it does, in a line."""
    before: tuple[str, ...] = ()
    """Words put before the user's, for a program that has more than one purpose."""
    storage: bool = False
    """Whether it takes addresses of a storage, s3:// or gs://."""


STORAGE = re.compile(r"(?:-[\w-]+=)?(?:s3|gs)://")

COMMANDS = {
    "detect": Command(
        "visavox.commands.detect", "judge videos, pictures or folders with a published detector or a checkpoint"
    ),
    "crop": Command(
        "visavox.commands.crop", "videos -> bundles: face crops, mel spectrograms, audio-visual distances", storage=True
    ),
    "shards": Command("visavox.commands.shards", "the bundles of a split in a few large files, to train from"),
    "train": Command("visavox.commands.train", "train a detector on bundles"),
    "eval": Command("visavox.commands.evaluate", "score a folder of videos into a submission CSV", storage=True),
    "score": Command("visavox.commands.score", "print P(fake) of single videos or bundles, with its reasons"),
    "merge": Command("visavox.commands.merge", "put together what the shards of a command left", storage=True),
    "localise": Command("visavox.commands.localise", "find the forged seconds of clips, and measure how well they fit"),
    "perturb": Command(
        "visavox.commands.perturb", "videos as the internet leaves them: blurred, compressed, noisy, late", storage=True
    ),
    "corpora": Command("visavox.corpora.__main__", "make a leak-proof split CSV of a corpus or a folder"),
    "groups": Command("visavox.commands.groups", "find who is who in clips that name nobody, by faces and voices"),
    "ffpp-audio": Command("visavox.corpora.ffpp_audio", "give the clips of FaceForensics++ their sound back"),
    "join-audio": Command("visavox.corpora.join_audio", "give videos the sound that lies beside them as audio/*.wav"),
    "audit": Command("visavox.audit.__main__", "find what separates the classes of a split without any skill"),
    "report": Command("visavox.report.__main__", "report on scores: metrics with intervals, plots, comparisons"),
    "calibrate": Command(
        "visavox.commands.calibrate", "fit a calibration of scores, or of a model on clips with labels"
    ),
    "fuse": Command("visavox.commands.fuse", "put detectors together: branches, or any score files, calibrated"),
    "pretrain-audio": Command("visavox.commands.pretrain_audio", "train fiveway's audio branch on ASVspoof 2019 LA"),
    "anomaly": Command("visavox.detectors.anomaly.__main__", "size of the anomaly detector; where in a clip it looks"),
    "features": Command(
        "visavox.commands.features", "bundles -> features of frozen backbones, for 2D3MF", storage=True
    ),
    "zeroshot": Command("visavox.commands.zeroshot", "calibrate scores that need no training, on real clips alone"),
    "pretrain-backbones": Command(
        "visavox.commands.pretrain_backbones", "train small backbones of 2D3MF on the clips of a split"
    ),
    "probes": Command("visavox.commands.probes", "linear probes on frozen features beside 2D3MF's fusion, as a table"),
    "lomo": Command("visavox.commands.lomo", "leave one manipulation out of training, one after the other, as a table"),
    "search": Command("visavox.commands.search", "search settings of a detector, resumable, several processes at once"),
    "fakes": Command(
        "visavox.commands.fakes", "make fakes of the real clips of a split, to train on, audit or look at"
    ),
    "export": Command("visavox.commands.export", "write a detector as ONNX or as a hub folder, or how to cite it"),
    "synthetic": Command("visavox.synthetic.__main__", "draw talking faces, genuine and forged, for tests and demos"),
    "serve": Command("visavox.commands.serve", "the page and the API that judge uploaded videos"),
    "worker": Command("visavox.commands.worker", "one more process that judges what the service has queued"),
    "weights": Command("visavox.weights.__main__", "list, fetch and verify trained weights of other people"),
    "doctor": Command("visavox.doctor", "say what is right and wrong with this installation"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names with the words that follow."""
    try:
        with runs.stoppable():
            code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (KeyboardInterrupt, SystemExit) as error:
        stop = runs.stopped_by(error)
        if stop is None:
            raise
        say("interrupted", error=True)
        return runs.exit_code(stop)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        say(overview())
        return 0
    name, *rest = words
    if name in ("-V", "--version"):
        from visavox import __version__

        say(f"visavox {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`visavox` lists them."
        say(f"visavox: there is no command {name!r}; {hint}", error=True)
        return 2
    command = COMMANDS[name]
    if not command.storage and (address := next(filter(STORAGE.match, rest), None)):
        able = ", ".join(name for name, other in COMMANDS.items() if other.storage)
        say(
            f"visavox {name}: {address}: no address of a storage is taken here, but by {able}; copy it to this machine",
            error=True,
        )
        return 2
    return importlib.import_module(command.module).main([*command.before, *rest])


def overview() -> str:
    """Return the list of commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: visavox COMMAND ...    (visavox COMMAND --help explains one)", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
