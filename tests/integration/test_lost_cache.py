"""Tests of runs whose cache is deleted or damaged meanwhile: the same scores and a whole page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence import read_evidence
from lightning_modules.base import SupervisedModule
from tests.conftest import SMALL
from tests.factories.distributed import ranks

DEMO = [
    "experiment=unetpp_brain_tumor",
    "scale=demo",
    *SMALL[1:-1],
    "datamodule.phantom.train=16",
    "datamodule.phantom.valid=6",
    "datamodule.phantom.test=22",
    "trainer.max_epochs=2",
    "do=[fit,test,predict]",
    "callbacks=[checkpoint,threshold_search/segmentation,graceful_shutdown,predictions,report]",
]


@pytest.fixture
def once(monkeypatch, tmp_path):
    """Deletes the whole cache folder, with the phantoms, when a hook is first called."""

    def install(hook: str) -> list[str]:
        deleted: list[str] = []
        own = getattr(SupervisedModule, hook)

        def call(self, *arguments):
            if not deleted:
                deleted.append(hook)
                shutil.rmtree(tmp_path / "cache")
            return own(self, *arguments)

        monkeypatch.setattr(SupervisedModule, hook, call)
        return deleted

    return install


def outputs(folder: Path) -> tuple[dict, list[np.ndarray], list[str]]:
    """Scores, evidence and names of the predictions of a run."""
    report = json.loads((folder / "report.json").read_text())
    found = [read_evidence(folder / f"evidence/{split}.npz") for split in ("val", "test")]
    predicted = sorted(path.name for path in (folder / "predictions").rglob("*.png"))
    assert (folder / "report.html").is_file()
    return report["scores"], [each.counts for each in found], predicted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "workers"),
    [("on_train_epoch_end", 0), ("on_train_epoch_end", 2), ("on_fit_end", 2), ("on_test_end", 0)],
)
def test_a_cache_that_is_deleted_during_a_run(cli, once, tmp_path, hook, workers):
    words = [*DEMO, f"datamodule.num_workers={workers}"]
    code, said = cli(*words, folder=tmp_path / "whole")
    assert code == 0, said
    deleted = once(hook)
    code, said = cli(*words, folder=tmp_path / "deleted")
    assert code == 0 and deleted and "Traceback" not in said, said
    scores, evidence, predicted = outputs(tmp_path / "whole")
    again, same, images = outputs(tmp_path / "deleted")
    assert again == scores and images == predicted
    assert all(map(np.array_equal, evidence, same))


def test_a_cache_that_is_damaged_is_said_once_and_gives_the_same_scores(cli, export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", "trainer.max_epochs=1"]
    code, said = cli(*words, folder=tmp_path / "whole")
    assert code == 0 and "damaged" not in said, said
    (place,) = (tmp_path / "cache").glob("images-*")
    for name in ("images.npy", "masks.npy"):
        data = bytearray((place / name).read_bytes())
        data[200_000:240_000] = bytes(40_000)
        (place / name).write_bytes(data)
    code, said = cli(*words, "datamodule.num_workers=2", folder=tmp_path / "damaged")
    assert code == 0 and said.count("is damaged") == 1, said
    code, said = cli(*words, folder=tmp_path / "again")
    assert code == 0 and said.count("rebuilt") == 1, said
    reports = [
        json.loads((tmp_path / name / "report.json").read_text())["scores"]
        for name in ("whole", "damaged", "again")
    ]
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize("place", ["a file", "a file/below", "n" * 300])
def test_a_cache_folder_that_cannot_be_made_is_one_sentence(cli, export, tmp_path, steps, place):
    (tmp_path / "a file").write_text("")
    words = [*SMALL, f"datamodule.root={export}", f"paths.cache='{tmp_path / place}'"]
    code, said = cli(*words)
    assert code == 2 and said.strip().count("\n") == 0 and not steps, said
    assert "set paths.cache to a folder that can be used" in said


@pytest.mark.slow
def test_two_ranks_build_a_damaged_cache_anew_once(export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", f"paths.cache={tmp_path / 'cache'}"]
    words += ["trainer.max_epochs=1", "datamodule.num_workers=1", "trainer.precision=32-true"]
    ranks(2, words, tmp_path / "whole")
    (place,) = (tmp_path / "cache").glob("images-*")
    (place / "sizes.npy").unlink()
    said = ranks(2, words, tmp_path / "again")
    assert said.count("is damaged (sizes.npy") == 1 and said.count("rebuilt") == 1, said
    data = bytearray((place / "images.npy").read_bytes())
    data[200:] = bytes(len(data) - 200)
    (place / "images.npy").write_bytes(data)
    said = ranks(2, words, tmp_path / "damaged")
    assert said.count("is damaged (images.npy") == 1, said
    tables = [
        pd.read_csv(tmp_path / name / "metrics.csv") for name in ("whole", "again", "damaged")
    ]
    losses = [table["train/loss"].dropna().tolist() for table in tables]
    assert losses[0] and losses[0] == losses[1] == losses[2]
