"""The fusion: the seed's own numbers, planted temperatures, folds without shared people, and heads for what is there."""

import json

import numpy as np
import pytest
from scipy.special import expit

from visavox.detectors.fiveway import fusion
from visavox.detectors.fiveway.fusion import BRANCHES, FEATURES, WAYS, Fusion, FusionError, Head

# The seed's stored 5-way head: feature, mean, scale, coefficient
SEED_5WAY = """
tiny_prob_mean 0.5686653763545356 0.07259712020329626 0.11140114603819692
tiny_prob_max 0.5987811102423557 0.06589176606538757 -0.009698264713221525
tiny_prob_p90 0.5891169020140818 0.0682400809360444 -0.03609050938141027
visual_prob_mean 0.915323627620947 0.2429673670889788 0.9722104160934404
visual_prob_max 0.9535456112678011 0.19950393039274206 0.1705487743509809
visual_prob_p90 0.9356321780930423 0.2379742416415595 0.5264834348928403
visual_num_faces 15.744186046511627 0.9341004856677256 -0.05037364378230318
tiny_num_files 15.744186046511627 0.9341004856677256 -0.05037364378230318
tiny_num_patches 141.69767441860466 8.406904371009523 -0.05037364378230321
audio_prob_fake 0.7634378927181698 0.36260597802918604 -0.10433294264037246
temporal_prob_fake 0.92707888415271 0.2330858013965735 0.9930594299462373
sync_prob 0.3792874133864114 0.019308396615245624 0.21938635554583663
"""


def seed_head() -> Head:
    names, *columns = zip(*(line.split() for line in SEED_5WAY.strip().splitlines()))
    means, scales, weights = (tuple(map(float, column)) for column in columns)
    return Head("5way", WAYS["5way"], names, means, scales, weights, 5.22890413362752, 0.3678794411714424)


def made(clips: int = 300, people: int = 30, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Features of clips of which audio and sync see one kind of fake each, tiny and visual the others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, clips)
    kind = rng.integers(0, 3, clips) * labels  # 0: faces, 1: voice, 2: sync
    fake_face, fake_voice, off = (labels == 1) & (kind == 0), kind == 1, kind == 2

    def p(is_fake: np.ndarray, strength: float = 2.0) -> np.ndarray:
        return expit(rng.normal(0, 1, clips) + strength * (2 * is_fake - 1))

    table = {name: p(fake_face, 1.5) for name in FEATURES if "prob" in name}
    table |= {name: rng.integers(8, 17, clips).astype(float) for name in FEATURES if "num" in name}
    table |= {"audio_prob_fake": p(fake_voice), "sync_prob": 1 - p(off)}
    return table, labels, rng.integers(0, people, clips)


@pytest.fixture(scope="module")
def clips() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    return made()


@pytest.fixture(scope="module")
def fitted(clips) -> Fusion:
    return fusion.fit(*clips, fitted_on="made clips")


def test_order_is_the_seed_s_stored_one_and_every_feature_has_a_branch():
    assert tuple(seed_head().features) == FEATURES
    assert sorted(name for names in BRANCHES.values() for name in names) == sorted(FEATURES)
    assert WAYS["2way"] == ("tiny", "visual") and WAYS["3way"][-1] == "audio" and WAYS["4way"][-1] == "temporal"


def test_the_seed_s_head_reproduces_its_printed_row():
    """A clip that the seed's notebook prints, to six digits, with its raw and its calibrated probability."""
    row = fusion.clip_features() | {
        **{"tiny_prob_mean": 0.497813, "tiny_prob_max": 0.559079, "tiny_prob_p90": 0.532717},
        **{"tiny_num_files": 16, "tiny_num_patches": 144, "visual_num_faces": 16},
        **{"visual_prob_mean": 0.998451, "visual_prob_max": 0.999986, "visual_prob_p90": 0.999982},
        **{"audio_prob_fake": 0.999116, "temporal_prob_fake": 0.992378, "sync_prob": 0.385628},
    }
    head = seed_head()
    values = np.array([[row[name] for name in head.features]])
    assert expit(head.raw(values)[0]) == pytest.approx(0.9972994607739658, abs=2e-8)
    assert expit(head.logit(values)[0]) == pytest.approx(0.999999895009286, abs=1e-11)


def test_the_seed_s_head_at_its_own_means_and_one_deviation_away():
    """At the means the raw log-odds are the intercept; T = exp(-1) multiplies them by e."""
    head = seed_head()
    means = np.array([head.means])
    assert head.raw(means)[0] == pytest.approx(5.22890413362752)
    assert head.logit(means)[0] == pytest.approx(5.22890413362752 * np.e)
    moved = means + np.eye(12)[3] * head.scales[3]
    assert head.raw(moved)[0] - head.raw(means)[0] == pytest.approx(head.weights[3])


def test_features_of_a_clip_are_the_seed_s_statistics():
    faces = np.array([0.1, 0.4, 0.2, 0.9, 0.3])
    row = fusion.clip_features(tiny=faces, patches=45, visual=1 - faces, audio=0.3)
    assert list(row) == list(FEATURES)
    assert row["tiny_prob_mean"] == pytest.approx(0.38) and row["tiny_prob_max"] == 0.9
    assert row["tiny_prob_p90"] == pytest.approx(np.percentile(faces, 90))
    assert (row["tiny_num_files"], row["tiny_num_patches"], row["visual_num_faces"]) == (5, 45, 5)
    assert np.isnan(row["temporal_prob_fake"]) and np.isnan(row["sync_prob"])


@pytest.mark.parametrize("planted", [0.3679, 1.0, 2.5, 40.0])
def test_a_planted_temperature_is_found_within_two_percent(planted):
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 2, 200_000)
    labels = (rng.random(len(truth)) < expit(truth)).astype(int)
    found, warning = fusion.fit_temperature(labels, truth * planted)
    assert warning == "" and abs(found / planted - 1) < 0.02


def test_temperature_is_the_minimum_of_the_loss():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    logits = rng.normal(0, 3, 60) + 2 * labels
    found, _ = fusion.fit_temperature(labels, logits)

    def loss(T: float) -> float:
        each = np.logaddexp(0, -np.where(labels == 1, 1, -1) * logits / T)
        return each[labels == 1].mean() + each[labels == 0].mean()

    assert loss(found) < min(loss(found * 0.99), loss(found * 1.01))


def test_a_separable_set_warns_and_stays_finite():
    labels = np.array([0] * 20 + [1] * 20)
    found, warning = fusion.fit_temperature(labels, np.where(labels == 1, 3.0, -2.0))
    assert found == 1.0 and "separate" in warning
    table = {"tiny_prob_mean": labels * 0.8 + np.linspace(0, 0.1, 40)}
    made_ = fusion.fit(table, labels, np.arange(40), branches={"tiny": ("tiny_prob_mean",)})
    assert "separate" in made_.heads[0].warnings[0]
    assert np.isfinite(made_.heads[0].logit(np.array([[0.0], [1.0]]))).all()
    back, warning = fusion.fit_temperature(labels, np.where(labels == 1, -3.0, 2.0))
    assert back == 1.0 and "do not rank" in warning


def test_nobody_stands_in_two_folds_and_every_clip_is_held_out_once(clips, fitted):
    table, labels, people = clips
    assert len(fitted.heads) == 31
    for out in fitted.validated.values():
        assert np.isfinite(out.logits).all() and set(out.fold) == set(range(5))
        assert all(len(set(out.fold[people == who])) == 1 for who in set(people))


def test_held_out_predictions_come_from_the_other_folds():
    """A feature that names the person is worth nothing across people, though it fits the training clips perfectly."""
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(40), 5)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    table = {f"who{k}": (people == k).astype(float) for k in range(40)}
    head, out = fusion.fit_head("x", ("x",), list(table), np.stack(list(table.values()), 1), labels, people)
    from visavox.evaluation.metrics import auc

    assert auc(labels, head.raw(np.stack(list(table.values()), 1))) > 0.99
    assert auc(labels, out.logits) < 0.7


def test_more_branches_are_worth_more_and_the_whole_head_is_sklearn_s(clips, fitted):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from visavox.evaluation.metrics import auc

    table, labels, people = clips
    aucs = {name: auc(labels, fitted.validated[name].logits) for name in (*WAYS, "tiny", "audio", "sync")}
    assert aucs["2way"] + 0.05 < aucs["3way"] and aucs["4way"] + 0.05 < aucs["5way"]
    assert aucs["5way"] > max(aucs["tiny"], aucs["audio"], aucs["sync"])
    rows = np.stack([table[name] for name in FEATURES], 1)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=1000))
    theirs.fit(rows, labels)
    np.testing.assert_allclose(fitted["5way"].raw(rows), theirs.decision_function(rows), atol=1e-4)


def test_json_round_trip_gives_the_same_numbers(clips, fitted, tmp_path):
    fitted.save(tmp_path / "fusion.json")
    loaded = Fusion.load(tmp_path / "fusion.json")
    assert loaded.heads == fitted.heads
    assert loaded["5way"].fitted_on == "made clips" and loaded["5way"].n_fake == clips[1].sum()
    assert loaded["5way"].fitted_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="other"), "format 'other'"),
        (lambda v: v["heads"][0].update(temperature=0), "temperature positive"),
        (lambda v: v["heads"][0]["weights"].pop(), "as many means"),
        (lambda v: v["heads"][0].pop("bias"), "bias"),
        (lambda v: v["heads"][0].update(bias="code()"), "code"),
    ],
)
def test_broken_json_is_refused_with_its_fault(fitted, tmp_path, change, message):
    value = json.loads(fitted.to_json())
    change(value)
    (tmp_path / "fusion.json").write_text(json.dumps(value))
    with pytest.raises(FusionError, match=message):
        Fusion.load(tmp_path / "fusion.json")


def test_a_pickle_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(FusionError, match="--from-sklearn"):
        Fusion.load(tmp_path / "clip_fusion_logreg.joblib")


def test_what_is_missing_chooses_the_head(clips, fitted):
    table, labels, people = clips
    row = {name: float(values[0]) for name, values in table.items()}
    assert fitted.head_for(row).name == "5way"
    silent = row | {"audio_prob_fake": float("nan"), "sync_prob": float("nan")}
    assert fitted.head_for(silent).name == "tiny+visual+temporal"
    assert fitted.head_for(row | {"visual_prob_max": float("nan")}).name == "tiny+audio+temporal+sync"
    with pytest.raises(FusionError, match="no head fits the features none"):
        fitted.head_for(dict.fromkeys(FEATURES, float("nan")))


def test_contributions_sum_to_the_log_odds_and_are_said_in_words(clips, fitted):
    table, labels, people = clips
    for i in range(20):
        row = {name: float(values[i]) for name, values in table.items()}
        logit, head = fitted.logit(row)
        assert sum(head.contributions(row).values()) == pytest.approx(logit)
    voice = {name: float(np.mean(values)) for name, values in table.items()} | {"audio_prob_fake": 0.999}
    first, *_ = fusion.explain(fitted["5way"], voice)
    assert first.startswith("The voice sounds synthetic: +") and "for a fake" in first
    assert "agree" in " ".join(fusion.explain(fitted["5way"], voice | {"sync_prob": 0.999}))


def test_clips_that_lack_a_branch_still_teach_the_heads_without_it():
    table, labels, people = made()
    table = {name: table[name] for name in FEATURES if name not in ("temporal_prob_fake", "sync_prob")}
    table["audio_prob_fake"] = np.where(np.arange(len(labels)) % 2, table["audio_prob_fake"], np.nan)
    three = {branch: BRANCHES[branch] for branch in WAYS["3way"]}
    fitted = fusion.fit(table, labels, people, branches=three)
    assert fitted["2way"].n_real + fitted["2way"].n_fake == 300
    assert fitted["3way"].n_real + fitted["3way"].n_fake == 150


def test_too_few_people_to_hold_out_leave_it_uncalibrated_and_say_so():
    table, labels, _ = made(40)
    fitted = fusion.fit(table, labels, np.zeros(40), branches={"tiny": BRANCHES["tiny"]})
    assert fitted["tiny"].temperature == 1.0 and "not calibrated" in fitted["tiny"].warnings[0]
    with pytest.raises(FusionError, match="both classes"):
        fusion.fit(table, np.zeros(40), np.arange(40))
