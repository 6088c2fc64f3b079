"""Tests of debug=fast_dev_run, overfit and profiler: each does what its name says."""

import re

import pandas as pd
import pytest

from engine.composition import compose_run, composed_run
from lightning_modules.instantiation import instantiate_config
from tests.conftest import SMALL, refused


@pytest.mark.slow
def test_overfit_learns_one_batch_by_heart_and_validates_on_it(cli, export, tmp_path):
    words = [word for word in SMALL if not word.startswith(("callbacks=", "module.optimizer.lr"))]
    words += [f"datamodule.root={export}", "debug=overfit"]
    code, said = cli(*words, "module.optimizer.lr=3e-3")
    assert code == 0, said
    table = pd.read_csv(tmp_path / "run/metrics.csv")
    assert (table["sampling/images"].dropna() == 4).all()
    loss = table["train/loss"].dropna()
    assert loss.iloc[-1] < loss.iloc[0] / 4
    # on the same images, of 64 px with lesions of some 20 pixels
    assert table["val/dice"].dropna().max() > 0.75


def test_every_epoch_of_an_overfit_shows_the_images_that_are_validated(export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", f"paths.cache={tmp_path}", "debug=overfit"]
    with composed_run(compose_run(words), words, tmp_path / "run") as cfg:
        data = instantiate_config(cfg.datamodule)
        data.prepare_data()
    train, val = data.train_dataloader().batch_sampler, data.val_dataloader()
    shown = [sorted(train.sampled_rows(epoch)[0].ravel().tolist()) for epoch in range(5)]
    judged = sorted(key.row for batch in val.batch_sampler for key in batch)
    assert len(train) == len(val) == 1 and len(set(judged)) == 4
    assert shown == [judged] * 5
    assert set(data.table.rows["split"].iloc[judged]) == {"train"}


def test_an_overfit_network_is_not_tested(cli, export, steps):
    words = [*SMALL, f"datamodule.root={export}", "debug=overfit", "do=[fit,test]"]
    refused(*cli(*words), steps, "trainer.overfit_batches=1 validates on the images", "do=[fit]")


@pytest.mark.slow
def test_profiler_names_the_time_of_each_part_in_the_run_folder(cli, export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", "datamodule.batches_per_epoch=3"]
    code, said = cli(*words, "debug=profiler")
    assert code == 0, said
    text = (tmp_path / "run/fit-profile.txt").read_text()
    calls = re.search(r"training_step\s*\|\s*[\d.e-]+\s*\|\s*(\d+)", text)
    assert calls is not None and int(calls[1]) == 3


def test_fast_dev_run_takes_one_step_and_saves_nothing(cli, export, tmp_path, steps):
    code, said = cli(*SMALL, f"datamodule.root={export}", "debug=fast_dev_run")
    assert code == 0, said
    assert steps == [0]
    assert not (tmp_path / "run/checkpoints").exists()
    assert not (tmp_path / "run/report.html").exists()
