"""The benchmark of made fakes: who trains, who is scored, AUC per fold with intervals over people; its tables."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import made_audit, made_fakes, made_real, made_synthetic
from benchmarks.made_figures import interval, mean_auc


@pytest.fixture
def sets() -> made_real.Sets:
    """Six real clips of three people in two folds, four generated ones of two methods, the real ones spoken over."""
    rows = [(f"real/{i}.npz", 0, f"p{i % 3}", "-", int(i % 3 == 2)) for i in range(6)]
    rows += [(f"fake/{i}.npz", 1, f"g{i}", "A" if i < 2 else "B", -1) for i in range(3)]
    rows.append(("fake/3.npz", 1, "p2", "B", -1))  # shows somebody who is real elsewhere
    columns = ["filepath", "label", "identity", "method", "fold"]
    spoken = [
        (f"spoken/{kind}_{i}.npz", int(kind == "said"), *rows[i][2:]) for i in range(6) for kind in ("real", "said")
    ]
    return made_real.Sets(pd.DataFrame(rows, columns=columns), pd.DataFrame(spoken, columns=columns))


def test_each_folds_reals_are_set_against_generated_clips_of_strangers(sets):
    folds = []
    for fold, shift in ((0, 0.0), (1, 0.4)):  # the folds' models differ in scale, which must not count
        paths = made_real.scored_paths(sets, fold)
        assert ("fake/3.npz" in paths) == (fold == 1)  # fold 0 trains on its person
        method = dict(zip(sets.clips["filepath"], sets.clips["method"]))
        level = {"-": 0.1, "A": 0.5, "B": 0.05}
        folds.append({path: level[method.get(path, "-")] + shift + 0.01 * ("said" in path) for path in paths})
    found = made_real.figures(folds, sets)
    assert found["generated: A"] == {"auc": 1.0, "fakes": 2} and found["generated: B"]["auc"] == 0.0
    assert found["generated"]["low"] <= found["generated"]["auc"] == pytest.approx((2 / 3 + 1 / 2) / 2, abs=1e-3)
    assert found["espeak"]["auc"] == 1.0
    table = made_real.as_table({"detectors": {"frames": {"trained": found}}, "sync_without_training": {}})
    assert "| frames | trained | 0.583 [" in table


def test_a_fold_trains_without_its_people(sets):
    made = pd.DataFrame(
        [
            (f"made/{side}/{i}.npz", int(side == "fake"), f"p{i % 3}", "p9")
            for i in range(6)
            for side in ("real", "fake")
        ],
        columns=["filepath", "label", "source", "donors"],
    )
    rows = made_real.training_rows(made, sets.clips, fold=1)
    assert set(rows["source"]) == {"p0", "p1"} and len(rows) == 8
    assert set(rows["split"]) == {"train", "val"} and (rows.groupby("source")["split"].nunique() == 1).all()


def test_the_interval_draws_people_and_not_clips():
    """Twenty clips of one person know no more of people than one clip."""
    rng = np.random.default_rng(0)
    fakes = [(score, f"g{i}") for i, score in enumerate(rng.normal(1, 1, 12))]
    many = [([(score, f"p{i}") for i, score in enumerate(rng.normal(0, 1, 40))], fakes)]
    few = [([(score, f"p{i // 20}") for i, (score, _) in enumerate(many[0][0])], fakes)]
    width = {name: interval(parts)["high"] - interval(parts)["low"] for name, parts in (("many", many), ("few", few))}
    assert mean_auc(many) == pytest.approx(mean_auc(few)) and width["many"] > 0


def test_every_detectors_settings_are_understood():
    from visavox import config as configuration
    from visavox.config.fakes import weights

    for trial in made_real.DETECTORS.values():
        config = configuration.load(None, [*made_real.PREP, *made_real.TRAIN, *trial.settings])
        assert config.bundle_faces >= config.frame_num and weights(list(made_real.SETS[trial.made]))
    for recipe in made_synthetic.RECIPES.values():
        assert configuration.load(recipe.config, recipe.settings).epoch > 0 and set(recipe.made) <= set(
            made_synthetic.SETS
        )


def test_the_table_marks_what_a_detector_should_see():
    scores = {"real": 0.1, "audio_shifted": 0.1, "audio_swapped": 0.1, "face_blended": 0.9, "voice_vocoded": 0.1}
    rows = pd.DataFrame([(kind, f"id{i}", score) for kind, score in scores.items() for i in range(4)])
    rows.columns = ["kind", "identity", "score"]
    found = {"video": {"kinds": ["sbv"], "sees": ["face_blended"], "auc": made_synthetic.by_kind(rows)}}
    assert "| video | sbv | 0.500 | 0.500 | **1.000** [1.00, 1.00] | 0.500 |" in made_synthetic.as_table(found)


def test_the_audits_table_names_what_is_flagged():
    finding = {"name": "treble", "auc": 0.3, "low": 0.2, "high": 0.4, "flagged": True}
    text = made_audit.as_table({"planted": {"real": 9, "fake": 9, "findings": [finding]}})
    assert "| planted | 9, 9 | treble | treble 0.300 [0.20, 0.40] |" in text


@pytest.mark.slow
def test_a_recipe_runs_from_nothing_to_its_table(tmp_path, monkeypatch):
    """Three people and one epoch: what comes out is a table, not skill. The second run reads what the first has kept."""
    people = {"train": {"identities": 3, "clips_per_identity": 2, "seed": 5, "fake_share": 0.0}}
    people["test"] = {"identities": 2, "clips_per_identity": 6, "seed": 77, "fake_share": 2 / 3}
    monkeypatch.setattr(made_synthetic, "PEOPLE", people)
    monkeypatch.setattr(made_synthetic, "HELD", ("id0000",))
    recipe = made_synthetic.RECIPES["xception_video"]
    monkeypatch.setitem(made_synthetic.RECIPES, "xception_video", recipe._replace(settings=["epoch=1", "frame_num=2"]))
    words = ["--parts", "synthetic", "--synthetic", "xception_video", "zeroshot", "--output", str(tmp_path)]
    assert made_fakes.main(words) == 0
    found = made_synthetic.measure(tmp_path, ["xception_video", "zeroshot"])
    assert set(found["xception_video"]["auc"]) == {"audio_shifted", "audio_swapped", "face_blended", "voice_vocoded"}
    assert found["xception_video"]["kinds"] == ["sbv", "region"] and found["zeroshot"]["kinds"] == []
