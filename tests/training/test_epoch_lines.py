"""A training that nobody watches on a terminal says how it goes."""

import logging
import re
from types import SimpleNamespace

import pytest
import torch

from visavox.training import epoch_lines
from visavox.training.epoch_lines import EpochLines, clock


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: now.value)
    return now


def test_a_line_per_epoch_and_one_a_minute_within_long_ones(time, caplog):
    caplog.set_level(logging.INFO)
    trainer = SimpleNamespace(
        current_epoch=2, max_epochs=5, num_training_batches=100, is_global_zero=True, callback_metrics={}
    )
    lines = EpochLines("val/loss")
    lines.on_train_start(trainer, None)
    lines.on_train_epoch_start(trainer, None)
    for step in range(100):
        time.value += 1.0
        lines.on_train_batch_end(trainer, None, None, None, step)
    trainer.callback_metrics = {name: torch.tensor(0.5) for name in ("train/loss", "val/loss", "val/auc", "lr")}
    lines.on_train_epoch_end(trainer, None)
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 3: step 60 of 100, 1 min 00 s, about 40.0 s left of it",
        "epoch 3 of 5: train/loss 0.5000, val/loss 0.5000, val/auc 0.5000, 1 min 40 s, at most 3 min 20 s left",
    ]


def test_lengths_of_time_have_the_unit_that_fits():
    assert [clock(seconds) for seconds in (4.21, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 05 min"]


def test_train_says_a_line_per_epoch_without_a_terminal(data, capfd):
    from conftest import command

    from visavox.commands import train

    assert train.main(command(data, "lines")) == 0
    said = capfd.readouterr().err
    assert len(re.findall(r"epoch \d of 3: train/loss [\d.]+, val/loss [\d.]+, val/auc [\d.]+, ", said)) == 3
