"""The configuration: the seed's defaults, closed, and every fault said at once."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from visavox import config as configuration
from visavox.config import Config, ConfigError, from_dict, help_text, load

CHECKOUT = Path(__file__).parents[2]
SHIPPED = [CHECKOUT / "config.json", *sorted((CHECKOUT / "configs").glob("*.json"))]

SEED = {
    "max_clip_len": 16,
    "face_detection_step": 64,
    "frame_num": 16,
    "frame_size": 224,
    "freq_num": 128,
    "resample_rate": 16000,
    "lr": 5e-3,
    "seed": 100,
    "train_batch_size": 2,
    "submit_batch_size": 1,
    "root_path": ".",
    "epoch": 32,
}
"""The reference system's config.json; its device, `cuda`, is here `auto`, and root_path was its author's folder."""


@pytest.mark.parametrize("config", [load(), load(CHECKOUT / "config.json")], ids=["built in", "config.json"])
def test_defaults_are_those_of_the_reference_system(config):
    assert {key: getattr(config, key) for key in SEED} == SEED
    assert config.device == "auto"
    assert (config.face_detector, config.sync) == ("retinaface_mobilenet0.25", "syncnet")


def test_config_json_repeats_the_defaults_and_holds_every_key_of_the_reference_system():
    assert load(CHECKOUT / "config.json") == load()
    assert set(SEED) <= set(json.loads((CHECKOUT / "config.json").read_text()))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    config = load(path)
    assert from_dict(config.model_dump(mode="json")) == config


def test_the_tiny_configuration_needs_no_download():
    config = load(CHECKOUT / "configs" / "tiny.json")
    assert (config.face_detector, config.sync) == ("haar", "correlation")


def test_all_faults_are_reported_at_once(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"frame_nun": 8, "lr": -1, "epoch": "many", "detector": {"num_layer": 2}, "qqq": 1}')
    with pytest.raises(ConfigError) as caught:
        load(path, ["device=tpu"])
    text = str(caught.value)
    assert "mine.json: 6 fault(s)" in text
    assert "frame_nun: no such key; did you mean frame_num?" in text
    assert "detector.num_layer: no such key; did you mean num_layers?" in text
    assert "qqq: no such key; known: " in text
    assert "lr: " in text and "found -1" in text
    assert "epoch: " in text and "found 'many'" in text
    assert "device: " in text and "'cuda'" in text and "found 'tpu'" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frame_num=40"], "bundle_faces=32 is smaller than frame_num=40; raise bundle_faces"),
        (["frame_size=225"], "detector.patch_size=16 does not divide frame_size=225"),
        (["resample_rate=8000"], "sync=syncnet needs resample_rate=16000, found 8000"),
        (["detector.num_heads=5"], "detector.num_heads=5 does not divide detector.embed_dims=768"),
        (["lr"], "'lr' is not an override; write key=value"),
        (["lr.x=1"], "lr"),
        (["lr=NaN"], "lr"),
        (["lr=Infinity"], "lr"),
        (["frame_num=16.5"], "frame_num"),
        (["augment=1"], "augment"),
        (["detector.name=resnet"], "detector"),
    ],
)
def test_what_does_not_fit_together_says_so(words, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load(None, words)


def test_faults_of_the_whole_stand_together():
    with pytest.raises(ConfigError) as caught:
        load(None, ["frame_num=40", "frame_size=225"])
    assert "frame_num=40" in str(caught.value) and "frame_size=225" in str(caught.value)


def test_overrides_are_words():
    config = load(
        CHECKOUT / "config.json", ["lr=1e-3", "detector.num_layers=4", "face_detector=haar", "augment=false", "seed=0"]
    )
    assert (config.lr, config.detector.num_layers, config.face_detector) == (1e-3, 4, "haar")
    assert (config.augment, config.seed) == (False, 0)
    assert load(None, ["lr=1", "lr=2"]).lr == 2


def test_an_override_of_a_group_reaches_keys_that_the_file_leaves_out(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{}")
    assert load(path, ["detector.num_layers=3"]).detector.num_layers == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "expected a JSON object"),
        (b"\xff", "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, content, message):
    (tmp_path / "mine.json").write_bytes(content)
    with pytest.raises(ConfigError, match=f"mine.json: {message}"):
        load(tmp_path / "mine.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none.json: no such file"):
        load(tmp_path / "none.json")


def test_a_configuration_cannot_be_changed():
    config = load()
    with pytest.raises(ValidationError):
        config.lr = 1.0
    with pytest.raises(ValidationError):
        config.detector.num_layers = 1


def test_loading_changes_neither_the_file_nor_the_defaults(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"detector": {"num_layers": 2}}')
    load(path, ["detector.num_layers=3"])
    assert load(path).detector.num_layers == 2
    assert load() == Config()


def keys(model: type[configuration.Settings], prefix: str = ""):
    for name, field in model.model_fields.items():
        if isinstance(field.default, configuration.Settings):
            yield from keys(type(field.default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def test_help_names_every_key_with_its_default_and_meaning():
    text = help_text()
    flat = " ".join(text.split())
    for key, field in keys(Config):
        assert f"\n  {key}={json.dumps(field.default)}\n" in f"\n{text}\n"
        assert field.description, key
        assert " ".join(field.description.split()) in flat


def test_what_may_change_after_training_is_marked_field_by_field():
    fused = configuration.XceptionFusedConfig()
    fixed = fused.fixed("detector.")
    assert fixed["detector.video.size"] == 299 and fixed["detector.audio.window"] == 2.0
    assert not {
        "detector.tau",
        "detector.video_calibration",
        "detector.video.frame_skip",
        "detector.audio.chunk",
    } & set(fixed)
    other = fused.model_copy(update={"tau": 5.0, "video": fused.video.model_copy(update={"frame_skip": 1})})
    assert other.fixed() == fused.fixed()
    assert configuration.AnomalyConfig(window_stride=5).fixed() != configuration.AnomalyConfig().fixed()


def test_a_detector_is_given_its_own_settings(tiny_config):
    from visavox.detectors.build import build

    assert build(tiny_config).settings is tiny_config.detector
