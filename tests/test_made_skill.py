"""The benchmark of made fakes: AUC per fold, averaged, with intervals over people; its table."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import made_fakes


@pytest.fixture
def clips() -> pd.DataFrame:
    """Six real clips of three people in two folds, four generated ones of two methods."""
    rows = [(f"real/{i}.npz", 0, f"p{i % 3}", "-", i % 2) for i in range(6)]
    rows += [(f"fake/{i}.npz", 1, f"g{i}", "A" if i < 2 else "B", -1) for i in range(4)]
    return pd.DataFrame(rows, columns=["filepath", "label", "identity", "method", "fold"])


def test_each_folds_reals_are_set_against_all_fakes(clips):
    spoken = {f"real/{i}.npz": f"spoken/{i}.npz" for i in range(6)}
    folds = []
    for fold, shift in ((0, 0.0), (1, 0.4)):  # the folds' models differ in scale, which must not count
        mine = clips[(clips["label"] == 1) | (clips["fold"] == fold)]
        level = {"-": 0.1, "A": 0.5, "B": 0.05}
        scores = {row.filepath: level[row.method] + shift for row in mine.itertuples()}
        scores |= {spoken[path]: score + 0.01 for path, score in scores.items() if path in spoken}
        folds.append(scores)
    found = made_fakes.figures(folds, clips, spoken)
    assert found["generated: A"] == {"auc": 1.0, "fakes": 2} and found["generated: B"] == {"auc": 0.0, "fakes": 2}
    assert found["generated"]["auc"] == 0.5 and found["generated"]["low"] <= 0.5 <= found["generated"]["high"]
    assert found["espeak"]["auc"] == 1.0
    result = {"detectors": {"frames": {"trained": found}}, "sync_without_training": {}, "audit": []}
    assert "| frames | trained | 0.500 [" in made_fakes.as_table(result)


def test_the_interval_draws_people_and_not_clips():
    """Twenty clips of one person know no more of people than one clip."""
    rng = np.random.default_rng(0)
    fakes = [(score, f"g{i}") for i, score in enumerate(rng.normal(1, 1, 12))]
    many = [([(score, f"p{i}") for i, score in enumerate(rng.normal(0, 1, 40))], fakes)]
    few = [([(score, f"p{i // 20}") for i, (score, _) in enumerate(many[0][0])], fakes)]
    width = {
        name: made_fakes.interval(parts)["high"] - made_fakes.interval(parts)["low"]
        for name, parts in (("many", many), ("few", few))
    }
    assert made_fakes.mean_auc(many) == pytest.approx(made_fakes.mean_auc(few)) and width["many"] > 0


def test_every_detectors_settings_are_understood():
    from visavox import config as configuration

    for epochs, kinds, settings in made_fakes.DETECTORS.values():
        config = configuration.load(None, [*made_fakes.PREP, *made_fakes.TRAIN, *settings])
        assert epochs > 0 and kinds and config.bundle_faces >= config.frame_num
