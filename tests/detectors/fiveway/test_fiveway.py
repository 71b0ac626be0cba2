"""Five branches as one detector: scores that depend on the clip alone, parts that are missing, the gate, what is said."""

import cv2
import numpy as np
import pytest
import torch
from conftest import CHECKOUT
from torch.utils.data import default_collate

from visavox import config as configuration
from visavox.bundle import BundleError
from visavox.config import Config, ConfigError
from visavox.detectors import build
from visavox.detectors.analysis import Analysis
from visavox.detectors.fiveway import crops, tiny
from visavox.detectors.fiveway.detector import FiveWayDetector
from visavox.detectors.fiveway.fusion import FEATURES
from visavox.detectors.fiveway.gate import Gate

CONFIG = CHECKOUT / "configs/fiveway_tiny.json"


@pytest.fixture(scope="module")
def config() -> Config:
    return configuration.load(CONFIG, ["device=cpu", "detector.gate_recall=0.99"])


@pytest.fixture(scope="module")
def bundles(make_bundle, config):
    """Sound and picture for all branches; their lengths differ."""
    rng = np.random.default_rng(5)
    return [make_bundle(i, config, audio=rng.integers(-3000, 3000, 8000 + 2000 * i, np.int16)) for i in range(5)]


@pytest.fixture(scope="module")
def detector(config, bundles) -> FiveWayDetector:
    """Random branches, and a fusion fitted on random features about theirs."""
    torch.manual_seed(0)
    made = build.build(config)
    assert isinstance(made, FiveWayDetector)
    made.eval()
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    row = made.examine(bundles[0]).row
    table = {name: rng.normal(row[name] + 0.2 * labels, 0.5) for name in FEATURES}
    made.fit_fusion(table, labels, np.arange(80) // 2 % 20, "random numbers")
    return made


def test_scores_depend_on_the_clip_alone(detector, bundles):
    together = detector.score(bundles)
    assert np.array_equal(detector.score(bundles[::-1])[::-1], together)
    assert np.array_equal(np.concatenate([detector.score([b]) for b in bundles]), together)
    assert len(set(together)) == len(bundles)


def test_a_batch_for_the_trainer_gives_the_same_scores(detector, bundles):
    clip = default_collate([detector.prepare(bundle, None) for bundle in bundles])
    with torch.inference_mode():
        logits = detector(clip)
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), detector.score(bundles), atol=1e-6)


def test_all_branches_speak_and_the_head_is_the_whole_one(detector, bundles):
    judged = detector.examine(bundles[0], early_exit=False)
    assert judged.head.name == "5way" and np.isfinite(list(judged.row.values())).all()
    assert set(judged.seconds) == {"tiny", "visual", "temporal", "audio", "sync"}
    assert judged.notes == ["judged by the head 5way"] and not judged.silent
    assert judged.row["tiny_num_patches"] == 9 * judged.row["tiny_num_files"] == 9 * 4
    assert judged.windows[0][0] == 0.0 and judged.windows[-1][1] == pytest.approx(1.0)


def test_a_clip_without_sound_is_judged_by_the_others_and_it_is_said(detector, make_bundle, config):
    nan = np.full(31, np.nan, np.float32)
    silent = make_bundle(
        9, config, status="no_audio", audio=np.zeros(0, np.int16), mdist=nan, latency=nan[0], conf=nan[0]
    )
    judged = detector.examine(silent, early_exit=False)
    assert judged.head.name == "tiny+visual+temporal"
    assert any("no sound" in note for note in judged.notes)
    assert "judged by the head tiny+visual+temporal" in judged.notes
    assert 0 < detector.score([silent])[0] < 1
    analysis = detector.explain(silent)
    assert {part.what: part.why for part in analysis.degraded} == dict.fromkeys(
        ("audio", "sync"), "the clip has no sound"
    )


def test_a_video_without_a_face_is_judged_by_the_head_that_hears(detector, bundles):
    """Sound alone gives what the audio branch gives of a bundle with this sound."""
    sound = bundles[1].audio
    scored = detector.score_sound(sound)
    head = detector.verdicts.fusion["audio"]
    row = detector.examine(bundles[1], early_exit=False).row
    assert scored.head == "audio" and scored.exited is False and set(scored.seconds) == {"audio"}
    assert scored.probability == pytest.approx(1 / (1 + np.exp(-head.logit(np.array([[row["audio_prob_fake"]]]))[0])))
    ended: list[str] = []
    analysis = detector.explain_sound(sound, watch=lambda branch, _: ended.append(branch))
    assert ended == ["audio"] and analysis.probability == scored.probability
    assert {part.what for part in analysis.degraded} == {"tiny", "visual", "temporal", "sync"}
    assert "judged by the head audio" in analysis.notes and "no face: only the branch audio speaks" in analysis.notes
    silence = np.zeros(8000, np.int16)
    with pytest.raises(RuntimeError, match="no head fits"):
        detector.score_sound(silence)
    assert detector.explain_sound(silence).verdict == "undetermined"


def test_what_would_have_been_said_without_a_branch_is_what_the_others_head_says(detector, bundles):
    analysis = detector.explain(bundles[0])
    row = detector.examine(bundles[0]).row
    said = {part.without: part.probability for part in analysis.counterfactuals}
    assert set(said) == {"tiny", "visual", "temporal", "audio", "sync"}
    head = detector.verdicts.fusion["4way"]
    logit = head.logit(np.array([[row[name] for name in head.features]]))[0]
    assert said["sync"] == pytest.approx(1 / (1 + np.exp(-logit)))
    assert sum(line.log_odds for line in analysis.ledger) == pytest.approx(
        np.log(analysis.probability / (1 - analysis.probability))
    )


@pytest.mark.parametrize(
    ("branch", "head"),
    [
        ("audio", "tiny+visual+temporal+sync"),
        ("sync", "4way"),
        ("visual", "tiny+audio+sync"),
        ("tiny", "visual+audio+temporal+sync"),
    ],
)
def test_a_branch_that_fails_leaves_the_others_standing(detector, bundles, monkeypatch, branch, head):
    """Whatever breaks in it: here its network raises, as one out of memory would."""

    def broken(*_):
        raise RuntimeError("planted")

    name = "windows" if branch == "sync" else "features" if branch in ("visual", "tiny") else "forward"
    monkeypatch.setattr(getattr(detector, branch), name, broken)
    judged = detector.examine(bundles[0])
    assert judged.head.name == head and 0 < detector.score([bundles[0]])[0] < 1
    assert f"branch {branch} failed and was left out: planted" in judged.notes
    assert f"branch {branch} failed" in " ".join(detector.explain(bundles[0]).notes)


def test_numbers_that_are_not_finite_are_a_failure(detector, bundles, monkeypatch):
    monkeypatch.setattr(detector.audio, "forward", lambda x: torch.full((len(x),), float("nan")))
    judged = detector.examine(bundles[0], early_exit=False)
    assert np.isfinite(judged.logit) and "not finite" in judged.notes[0]


def test_early_exit_changes_no_score_of_a_clip_that_does_not_exit(detector, bundles, monkeypatch):
    tiny = [detector.examine(b, early_exit=False).row["tiny_prob_max"] for b in bundles]
    assert not detector.verdicts.gate.open  # 40 fakes cannot vouch for 0.99
    opened = Gate(float(np.median(tiny)), 0.995, 0.991, 0.999, 2000, 0.3)
    monkeypatch.setattr(detector.verdicts, "gate", opened)
    with_gate = [detector.examine(b, early_exit=True) for b in bundles]
    without = [detector.examine(b, early_exit=False) for b in bundles]
    exited = [one.exited for one in with_gate]
    assert exited == [p < np.median(tiny) for p in tiny] and 0 < sum(exited) < len(exited)
    assert [one.exited for one in detector.score_in_detail(bundles)] == exited
    for one, other in zip(with_gate, without):
        if one.exited:
            assert (
                one.head.name == "tiny" and set(one.seconds) == {"tiny"} and "the gate let it through" in one.notes[0]
            )
        else:
            assert one.logit == other.logit


def test_the_gate_can_be_switched_off_after_training(config, detector, tmp_path):
    words = ["detector.early_exit=false", "device=cpu"]
    assert not configuration.load(CONFIG, words).detector.early_exit
    torch.save(
        {"state_dict": detector.state_dict(), "hyper_parameters": {"config": config.model_dump(mode="json")}},
        tmp_path / "best.ckpt",
    )
    assert not build.load(tmp_path / "best.ckpt", ["detector.early_exit=false"]).settings.early_exit
    with pytest.raises(ConfigError, match="gate_recall"):
        build.load(tmp_path / "best.ckpt", ["detector.gate_recall=0.5"])


def test_a_checkpoint_carries_fusion_and_gate(config, detector, bundles, tmp_path):
    torch.save(
        {"state_dict": detector.state_dict(), "hyper_parameters": {"config": config.model_dump(mode="json")}},
        tmp_path / "best.ckpt",
    )
    loaded = build.load(tmp_path / "best.ckpt")
    assert loaded.verdicts.fusion.heads == detector.verdicts.fusion.heads
    assert loaded.verdicts.gate == detector.verdicts.gate
    assert np.array_equal(loaded.score(bundles), detector.score(bundles))
    assert detector.card.calibration == "uncalibrated"  # what is asked before the first clip: GET /model
    assert loaded.card.calibration == loaded.explain(bundles[2]).card.calibration != "uncalibrated"


def test_explain_says_what_each_branch_found_and_why(detector, bundles):
    analysis = detector.explain(bundles[2])
    assert Analysis.from_json(analysis.to_json()) == analysis
    assert analysis.probability == detector.score([bundles[2]])[0]
    assert [branch.name for branch in analysis.branches] == ["tiny", "visual", "temporal", "audio", "sync"]
    assert sum(branch.weight for branch in analysis.branches) == pytest.approx(1)
    judged = detector.examine(bundles[2])
    by_name = {branch.name: branch for branch in analysis.branches}
    assert by_name["sync"].probability == pytest.approx(1 - judged.row["sync_prob"])
    assert len(by_name["visual"].timeline) == 4 and by_name["visual"].timeline[-1].end == pytest.approx(1.0)
    assert "log-odds" in analysis.notes[0] and "random numbers" in analysis.card.calibration
    assert "no time line" in analysis.notes[-1]


def test_a_watcher_is_told_of_each_branch_that_ended_and_may_end_the_call(detector, bundles, monkeypatch):
    ended: list[tuple[str, float]] = []
    monkeypatch.setattr(detector.audio, "forward", lambda x: torch.full((len(x),), float("nan")))
    analysis = detector.explain(bundles[0], watch=lambda branch, seconds: ended.append((branch, seconds)))
    assert [branch for branch, _ in ended] == ["tiny", "visual", "temporal", "audio", "sync"]
    assert dict(ended) == {branch.name: branch.seconds for branch in analysis.branches}

    def stop(branch, seconds):
        if branch == "visual":
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        detector.explain(bundles[0], watch=stop)


def test_a_detector_without_fusion_says_what_to_do(config, bundles):
    fresh = build.build(config)
    for ask in (lambda: fresh.score(bundles[:1]), lambda: fresh.explain(bundles[0])):
        with pytest.raises(RuntimeError, match="no fusion yet.*best.ckpt"):
            ask()


def test_wrapped_crops_are_the_seed_s():
    """trunc((p - 127.5) / 128 * 255) mod 256, as x86 casts negative floats to uint8."""
    faces = np.array([0, 1, 126, 127, 128, 129, 254, 255], np.uint8).reshape(1, 1, 8, 1).repeat(3, -1)
    expected = [int(np.fix((p - 127.5) / 128 * 255)) % 256 for p in (0, 1, 126, 127, 128, 129, 254, 255)]
    assert crops.wrapped(faces)[0, 0, :, 0].tolist() == expected
    assert expected[:1] == [2] and expected[3:5] == [0, 0] and expected[-1] == 254
    assert configuration.load(CONFIG).detector.preprocessing == "natural"


@pytest.mark.data
def test_wrapped_crops_of_a_real_video_are_what_the_seed_s_networks_read(clips, detector, config, tmp_path):
    """The overflow pixel by pixel in whole numbers; patches of the torn crop, and for the rest a JPEG file of it read again."""
    from visavox.preprocessing import tools

    words = ["device=cpu", "frame_size=224", "max_clip_len=2", "detector.preprocessing=wrapped"]
    words += ["detector.tiny_preprocess=raw", "detector.tiny_input=unit"]
    mine = configuration.load(CONFIG, words)
    bundle = tools.build(mine)(clips / "real/grid_swiz3n.mpg")
    view = crops.View(bundle, mine, mine.detector)
    kept = ((np.arange(mine.frame_num) + 0.5) * len(bundle.faces) / mine.frame_num).astype(int)
    # f(p) = trunc((p - 127.5) / 128 * 255) mod 256 = trunc((2 p - 255) * 255 / 256) mod 256, without floats
    f = [((2 * p - 255) * 255 // 256 if 2 * p >= 255 else -((255 - 2 * p) * 255 // 256)) % 256 for p in range(256)]
    torn = np.array(f)[bundle.faces[kept].astype(int)]
    assert torn.shape == (mine.frame_num, 224, 224, 3) and np.array_equal(view.faces, torn)
    assert len(np.unique(bundle.faces)) > 200  # a real picture holds nearly every value

    made = FiveWayDetector(mine, mine.detector).eval()
    state = {name: value for name, value in detector.state_dict().items() if not name.startswith("verdicts")}
    made.load_state_dict(state, strict=False)
    corner = slice(56 - 16, 56 + 16)
    patches = torch.from_numpy(torn[:, corner, corner] / 255).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        logits = made.tiny(patches)
        patches_of_all = torch.from_numpy(tiny.cut_patches(view.faces)).flatten(0, 1)
        assert torch.allclose(made.tiny(made._tiny_input(patches_of_all)).view(-1, 9)[:, 0], logits, atol=1e-6)
        again = []
        for i, face in enumerate(torn.astype(np.uint8)):
            cv2.imwrite(str(tmp_path / f"{i}.jpg"), cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
            again.append(cv2.cvtColor(cv2.imread(str(tmp_path / f"{i}.jpg")), cv2.COLOR_BGR2RGB))
        x = torch.from_numpy(np.stack(again)).permute(0, 3, 1, 2).float() / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        wanted = torch.sigmoid(made.visual((x - mean[:, None, None]) / std[:, None, None]).double()).numpy()
        np.testing.assert_allclose(made._visual_probabilities(view.faces, []), wanted, atol=1e-6)


def test_wrapped_preprocessing_reaches_the_three_face_branches(detector, bundles, config):
    torn = config.model_copy(update={"detector": config.detector.model_copy(update={"preprocessing": "wrapped"})})
    other = FiveWayDetector(torn, torn.detector)
    other.load_state_dict(detector.state_dict())
    one, two = (d.eval().examine(bundles[0], early_exit=False).row for d in (detector, other))
    changed = {name.split("_")[0] for name in FEATURES if one[name] != two[name]}
    assert changed == {"tiny", "visual", "temporal"}


def test_faces_once_kept_as_jpeg_are_near_and_not_equal():
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    smooth = np.stack([np.kron(face[::8, ::8], np.ones((8, 8, 1))).astype(np.uint8) for face in faces])
    again = crops.as_jpeg(smooth)
    assert again.shape == smooth.shape and np.abs(again.astype(int) - smooth).mean() < 8
    assert (again != smooth).any()


def test_augmentation_follows_from_the_generator_and_moves_nothing_in_time(bundles):
    faces = np.stack([np.full((32, 32, 3), 20 * i + 40, np.uint8) for i in range(8)])
    one, other = (crops.augment(faces, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, other) and one.shape == faces.shape
    assert (np.diff(one.reshape(8, -1).mean(1)) > 0).all()


def test_a_bundle_without_its_audio_says_how_to_load_it(detector, bundles):
    from dataclasses import replace

    with pytest.raises(BundleError, match="full=True"):
        detector.score([replace(bundles[0], audio=None)])


def test_stages_with_no_epochs_are_left_out(config):
    words = ["detector.audio_epochs=0", "detector.sync_epochs=0"]
    assert build.build(configuration.load(CONFIG, words)).stages == ("tiny", "visual", "temporal", "fusion")
    assert build.build(config).stages == ("tiny", "visual", "temporal", "audio", "sync", "fusion")


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="sync_max_shift=2 is below"):
        configuration.load(CONFIG, ["detector.sync_max_shift=2"])
    with pytest.raises(ConfigError, match="teacher_weights is of no use"):
        configuration.load(CONFIG, ["detector.teacher_weights=x.pth", "detector.tiny_epochs=0"])


def test_only_the_stage_s_branch_learns(detector, bundles, config):
    torch.manual_seed(0)
    made = FiveWayDetector(config, config.detector)
    for stage in made.stages[:-1]:
        made.begin(stage)
        assert made.target == {"audio": "audio_label", "sync": "label"}.get(stage, "video_label")
        learning = {name.split(".")[0] for name, p in made.named_parameters() if p.requires_grad}
        assert learning == {stage}
        made.train()
        assert {b for b in made.stages[:-1] if made.get_submodule(b).training} == {stage}
        clip = default_collate([made.prepare(b, np.random.default_rng(i)) for i, b in enumerate(bundles)])
        if stage == "sync":
            found = made._window_loss(clip, clip.length - config.detector.sync_window, random=True)
            loss = found.contrastive + found.match
        else:
            loss = made._each(clip).mean()
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in made.parameters())
        made.zero_grad(set_to_none=True)


def test_the_seed_s_sync_head_judges_clip_means(config, bundles):
    words = ["device=cpu", "detector.sync_head=clip"]
    torch.manual_seed(0)
    made = build.build(configuration.load(CONFIG, words)).eval()
    row = made.examine(bundles[0]).row
    assert 0 < row["sync_prob"] < 1
    made.begin("sync")
    clip = default_collate([made.prepare(b, np.random.default_rng(i)) for i, b in enumerate(bundles)])
    loss, _ = made._clip_loss(clip)
    loss.backward()
    assert made.sync.net[0].weight.grad.abs().sum() > 0
