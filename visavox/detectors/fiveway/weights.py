"""Weights of other people into the branches: strict, and what was done with every name is said."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from torch import nn

from visavox.weights import WeightsError, fit, parameters, resolve, safe_load

log = logging.getLogger(__name__)


def start(network: nn.Module, branch: str, source: str, *, leave_out: Collection[str] = ()) -> str:
    """Give a branch published weights, or say that it starts from random ones; return that sentence.

    Args:
        branch: tiny, teacher, visual, temporal, audio or sync; the setting is `detector.BRANCH_weights`.
        source: a name of the registry, a path, or `none`.
        leave_out: parameters of the network that stay as they are where the file has them in another shape, such as the
            classifier of ImageNet.

    Raises:
        WeightsError: the file is missing, is a pickle of code (`.joblib`), or does not fit; the message lists what.
    """
    if source == "none":
        said = f"the {branch} branch starts from random weights (detector.{branch}_weights=none)"
        log.info(said)
        return said
    path = Path(source) if Path(source).is_file() else None
    if path is not None and path.suffix in (".joblib", ".pkl", ".pickle"):
        raise WeightsError(
            f"{path}: a pickle of scikit-learn, which runs code when it is read, so it is not. Fusion heads are JSON: "
            f"`visavox fuse --from-sklearn {path}` prints what to run where you trust the file"
        )
    state = parameters(safe_load(path or resolve(source)), what=source)
    own = network.state_dict()
    left = sorted(n for n in leave_out if n in own and (n not in state or state[n].shape != own[n].shape))
    given = {name: value for name, value in state.items() if name not in left}
    fresh = [*left, "*num_batches_tracked"]  # older files do not count
    found = fit(network, given, fresh=fresh, what=f"{branch} weights of {source}")
    said = f"{found.loaded} of {len(own)} entries loaded" + (f", left as they were: {', '.join(left)}" if left else "")
    log.info("the %s branch starts from %s: %s", branch, source, said)
    return said
