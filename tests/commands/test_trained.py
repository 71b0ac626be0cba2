"""A training that several commands need is done once."""

import json
from pathlib import Path
from typing import Any

import pytest

from visavox import config as configuration
from visavox.commands import train
from visavox.commands.trained import trained
from visavox.config import ConfigError


def test_a_training_is_done_once_and_one_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def noted(config: Any, **more: Any) -> dict[str, Any]:
        asked.append(more)
        return {"test_auc": 0.5}

    monkeypatch.setattr(train, "train", noted)
    config = configuration.load("tiny", [f"runs_path={tmp_path}"])
    folder, words = tmp_path / "one", {"code_version": "one", "data_version": "split"}
    assert trained(config, **words) == {"test_auc": 0.5}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    trained(config, **words)
    assert [more["resume"] for more in asked] == [False, True]
    assert asked[0]["code_version"] == "one" and asked[0]["data_version"] == "split"
    (folder / "test.json").write_text('{"test_auc": 0.75}')
    trained(config, **words, last="gate.json")
    assert len(asked) == 3, "what training writes last is not there yet"
    assert trained(config, **words) == {"test_auc": 0.75} and len(asked) == 3
    with pytest.raises(ConfigError, match="epoch"):
        trained(config.model_copy(update={"epoch": config.epoch + 1}), **words)
