"""Tests of the pre-classifier from the command line.

Every probability comes from a network that had not seen the image; segmenters use them.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.pneumothorax import read_siim_csv
from engine import runner
from evaluation.evidence import read_evidence
from lightning_modules.base import SupervisedModule
from tests.conftest import SMALL_PNX, refused
from tests.factories.finished_run import finish_run

LABELS = [
    "experiment=preclassify_pnx",
    "image_size=32",
    "folds=2",
    "datamodule.seed=0",
    "datamodule.cache_size=null",
    "module.net={encoder:{name:resnet18,weights:null}}",
    "trainer.max_epochs=1",
    "callbacks=[checkpoint,threshold_search/classification,class_probabilities,sampling_monitor,nonfinite_loss,predictions,report]",
    *SMALL_PNX[-3:-1],
]
SMALL_CONSUMER = [
    word
    for word in SMALL_PNX
    if not word.startswith(("datamodule/sampling", "datamodule.cls_prob"))
]
ONE = [
    "callbacks.curriculum.stages=[{epochs:1,lr:1e-3}]",
    "trainer.max_epochs=1",
    "datamodule.batch_size=6",
]


@pytest.fixture(scope="module")
def labels(thorax, tmp_path_factory):
    """A run of two folds."""
    words = [*LABELS, f"datamodule.root={thorax}"]
    return finish_run(words, tmp_path_factory.mktemp("labels") / "run")


def judged(file: Path) -> pd.Series:
    evidence = read_evidence(file)
    return pd.Series(evidence.probability[:, 0], index=evidence.ids)


def consumer(root: Path, probabilities: object, *words: str) -> list[str]:
    return [
        *SMALL_CONSUMER,
        *ONE,
        f"datamodule.root={root}",
        f"datamodule.cls_prob={probabilities}",
        *words,
    ]


def test_every_image_has_a_probability_of_networks_that_had_not_seen_it(labels):
    table = pd.read_csv(labels / "cls_prob.csv", dtype={"id": str})
    assert table["id"].is_unique and set(table["seen"]) == {"out_of_fold", "held_out"}
    assert ((table["seen"] == "out_of_fold") == (table["split"] == "train")).all() and set(
        table["split"]
    ) == {"train", "val", "test"}
    known = table.set_index("id")["cls_prob"]
    folds = [judged(labels / f"fold{fold}/evidence/val.npz") for fold in (0, 1)]
    kept_out = [judged(labels / f"fold{fold}/evidence/test.npz") for fold in (0, 1)]
    own, mean = pd.concat(folds), pd.concat(kept_out).groupby(level=0).mean()
    assert own.index.is_unique and sorted(own.index) == sorted(
        table["id"][table["split"] == "train"]
    )
    assert sorted(mean.index) == sorted(table["id"][table["split"] != "train"]) and set(
        kept_out[0].index
    ) == set(kept_out[1].index)
    pd.testing.assert_series_equal(
        known.sort_index(), pd.concat([own, mean]).sort_index(), check_names=False
    )


@pytest.mark.slow
def test_hard_images_weigh_more_in_the_loss(labels, thorax, cli, tmp_path, monkeypatch):
    weights, losses, own = {}, [], SupervisedModule.training_step

    def step(module, batch, i):
        weights.update(zip(batch["id"], batch["weight"].tolist(), strict=True))
        each = []
        with module.loss.register_forward_hook(
            lambda _, inputs, output: each.append(output.detach())
        ):
            loss = own(module, batch, i)
        losses.append((float(loss.detach()), float((each[0] * batch["weight"]).mean())))
        return loss

    monkeypatch.setattr(SupervisedModule, "training_step", step)
    table = pd.read_csv(labels / "cls_prob.csv", dtype={"id": str}).set_index("id")
    middle = float(table["cls_prob"].median())
    code, said = cli(*consumer(thorax, labels, f"datamodule.sampling.hard_threshold={middle}"))
    assert code == 0, said
    annotated = read_siim_csv(thorax / "train-rle.csv")
    for id, weight in weights.items():
        positive, probability = annotated[id][0] not in ("", "-1"), table["cls_prob"][id]
        assert weight == (
            1.5
            if positive and probability < middle
            else 2.0
            if not positive and probability > middle
            else 1.0
        )
        assert table["split"][id] == "train"
    assert set(weights.values()) == {1.0, 1.5, 2.0}
    assert np.allclose(*zip(*losses, strict=True), rtol=1e-5)
    for split in ("val", "test"):
        assert set(read_evidence(tmp_path / f"run/evidence/{split}.npz").ids) == set(
            table.index[table["split"] == split]
        )


@pytest.mark.slow
def test_probabilities_of_another_split_or_of_a_network_that_saw_the_images_are_refused(
    labels, thorax, cli, tmp_path, steps
):
    code, said = cli(*consumer(thorax, labels, "datamodule.seed=1"))
    refused(code, said, steps, "come from another split", "the same datamodule.seed")
    code, said = cli(*consumer(thorax, labels / "fold0"))
    refused(code, said, steps, "was trained on these images", "folds=5")
    code, said = cli(*LABELS, f"datamodule.root={thorax}", "folds=0", folder=tmp_path / "whole")
    table = pd.read_csv(tmp_path / "whole/cls_prob.csv")
    assert code == 0 and ((table["seen"] == "in_sample") == (table["split"] == "train")).all(), said
    steps.clear()
    code, said = cli(*consumer(thorax, tmp_path / "whole"))
    refused(code, said, steps, "was trained on these images", "folds=5")
    code, said = cli(*consumer(thorax, "null"))
    refused(code, said, steps, "cls_prob is missing", "datamodule/sampling=natural")
    code, said = cli(*consumer(thorax, "latest:preclassify_pnx", f"paths.runs={tmp_path / 'runs'}"))
    refused(code, said, steps, "no finished run of preclassify_pnx on real data", "make one first")


@pytest.mark.slow
def test_a_demo_makes_the_missing_run_on_the_same_split_first(cli, tmp_path, monkeypatch):
    made, first, own = [], {}, runner.run_experiment

    def shorter(cfg, *arguments, **named):
        made.append(cfg.title)
        first[cfg.title] = named["prepared"]
        if "preclassify" in cfg.title:
            cfg.trainer.max_epochs, cfg.image_size = 1, 32
        return own(cfg, *arguments, **named)

    monkeypatch.setattr(runner, "run_experiment", shorter)
    words = [
        "experiment=curriculum_pnx",
        "scale=demo",
        "seed=3",
        "image_size=32",
        "datamodule.phantom.images=90",
        "datamodule.phantom.size=64",
    ]
    more = [
        *ONE[:2],
        f"paths.runs={tmp_path / 'runs'}",
        "trainer.enable_progress_bar=false",
        "do=[fit]",
    ]
    code, said = cli(*words, *more)
    assert code == 0 and "needs a run of preclassify_pnx" in said, said
    (seconds,) = re.findall(r"preclassify_pnx took (\d+) s; curriculum_pnx starts now", said)
    (folder,) = (tmp_path / "runs/preclassify_pnx").iterdir()
    assert [(one.experiment, one.folder) for one in first["curriculum_pnx"]] == [
        ("preclassify_pnx", folder)
    ]
    assert f"{first['curriculum_pnx'][0].seconds:.0f}" == seconds
    assert int(seconds) >= json.loads((folder / "outcome.json").read_text())["seconds"] - 1
    assert made == [
        "preclassify_pnx, fold 0 of 2",
        "preclassify_pnx, fold 1 of 2",
        "curriculum_pnx",
    ]
    code, said = cli(*words, *more, folder=tmp_path / "second")
    assert code == 0 and made[3:] == ["curriculum_pnx"] and not first["curriculum_pnx"], said
    named = next(
        line
        for line in (tmp_path / "second/config.yaml").read_text().splitlines()
        if "cls_prob: " in line
    )
    assert (
        named.strip().startswith(f"cls_prob: {tmp_path / 'runs/preclassify_pnx'}")
        and "fold" not in named
    )
