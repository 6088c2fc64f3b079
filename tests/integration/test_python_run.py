"""A run started from Python, as in a notebook, and the composition that every run folder keeps."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import engine
from datamodules.errors import UserError
from reporting import RunFolder

SMALL = [
    "image_size=64",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    *(f"datamodule.phantom.{part}=12" for part in ("train", "valid", "test")),
    "datamodule.phantom.size=64",
]


def test_a_run_from_python_leaves_what_the_command_line_leaves(tmp_path):
    words = [*SMALL, f"paths.runs={tmp_path}", "folds=2", "seed=3"]
    run = engine.run("demo", overrides=words)
    assert isinstance(run, RunFolder) and run.path.parent == tmp_path / "demo"
    assert run.outcome.status == "finished" and run.outcome.overrides == run.overrides
    assert run.overrides == ["experiment=demo", *words]
    assert run.title == "demo, 2 folds" and run.evaluated_split == "out_of_fold"
    assert 0 <= run.score("out_of_fold", "dice") <= 1 and run.page.is_file()
    for fold in range(2):
        one = RunFolder(run.path / f"fold{fold}")
        assert one.overrides == [*run.overrides, f"fold={fold}"]
        assert one.unresolved_config["datamodule"]["seed"] == "${seed}"
        assert one.config["datamodule"]["seed"] == one.config["seed"] == 3
        assert one.config["fold"] == fold and one.outcome.status == "finished"
        assert one.checkpoint("best").is_file() and len(one.epochs()) == 1
    assert not HydraConfig.initialized() and not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trainer.devices=2"], "type: python run.py experiment=demo trainer.devices=2"),
        (["sed=1"], "sed is not a key of this experiment; did you mean seed"),
        (["seed=1,2"], "seed=1,2 has several values"),
        (["do=[tset]"], r"do=\[tset\] is unknown"),
    ],
)
def test_what_cannot_run_is_refused_in_the_words_of_the_command_line(words, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        engine.run("demo", overrides=[*words, f"paths.runs={tmp_path}"])
    with pytest.raises(UserError, match="experiment=dmo is not there; did you mean demo"):
        engine.run("dmo")
    assert not list(tmp_path.rglob("config.yaml")) or words == ["do=[tset]"]
    assert not HydraConfig.initialized()
