"""A command that names a run takes the run's overrides first, and the command's own win."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from datamodules.errors import UserError
from engine.composition import compose_run
from engine.config_check import check_arguments
from engine.recomposition import check_unchanged, recompose
from engine.user_code import CONF


def _write_run(folder: Path, overrides: list[str], config: dict | None = None, **hydra) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config or {"datamodule": {"root": "none"}}))
    return folder


def test_the_overrides_of_the_run_come_first_and_those_of_the_command_win(tmp_path):
    run = _write_run(tmp_path / "run", ["experiment=demo", "seed=1", "image_size=128"])
    words = ["do=[test]", f"ckpt_path={run}", "seed=2"]
    assert recompose(words) == ["experiment=demo", "image_size=128", *words]


@pytest.mark.parametrize(
    "foreign",
    [
        *("paths.runs=/x", "hydra.run.dir=/x", "hydra/launcher=slurm", "do=[fit]", "resume=auto"),
        *("ckpt_path=/x", "init_from=/x", "debug=overfit", "trainer.profiler=simple"),
        "code=[my_net]",
        *("trainer.devices=3", "trainer=fsdp", "trainer.precision=bf16-mixed"),
    ],
)
def test_folders_state_and_hardware_of_the_run_are_not_taken(tmp_path, foreign):
    run = _write_run(tmp_path / "run", ["experiment=demo", foreign])
    assert recompose(["do=test", f"ckpt_path={run}"])[0:2] == ["experiment=demo", "do=test"]


def test_what_limits_an_evaluation_is_taken(tmp_path):
    own = ["trainer.limit_test_batches=2", "trainer.max_epochs=3"]
    run = _write_run(tmp_path / "run", ["experiment=demo", *own])
    assert set(own) < set(recompose(["do=test", f"ckpt_path={run}"]))


def test_a_checkpoint_of_the_run_and_a_moved_run_work_alike(tmp_path):
    run = _write_run(tmp_path / "run", ["experiment=demo"])
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").touch()
    moved = run.rename(tmp_path / "moved")
    for place in (moved, moved / "checkpoints" / "best.ckpt"):
        assert recompose(["do=test", f"ckpt_path={place}"])[0] == "experiment=demo"


def test_the_default_experiment_is_taken_from_the_choices_of_the_run(tmp_path):
    run = _write_run(tmp_path / "run", ["seed=3"], runtime={"choices": {"experiment": "demo"}})
    assert recompose(["do=test", f"ckpt_path={run}"])[:2] == ["experiment=demo", "seed=3"]


def test_any_folder_is_predicted_with_the_input_settings_of_the_run_alone(tmp_path):
    own = ["experiment=weak_bone_scan", "datamodule.view=ANT", "datamodule.window=[0,900]"]
    run = _write_run(tmp_path / "run", [*own, "datamodule/augmentation=mri", "datamodule.seed=4"])
    words = recompose(["do=[predict]", f"ckpt_path={run}", "datamodule.root=new"])
    assert words[:2] == ["experiment=weak_bone_scan", "datamodule.window=[0,900]"]
    added = {"datamodule=folder", "datamodule.phantom=null", "datamodule.augmentation=null"}
    assert added <= set(words)
    left_out = ("datamodule.view", "datamodule/augmentation", "datamodule.seed")
    assert not any(word.startswith(left_out) for word in words)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_a_folder_is_composed_for_every_experiment(tmp_path, name):
    run = _write_run(tmp_path / "run", [f"experiment={name}", "scale=demo"])
    cfg = compose_run(recompose(["do=predict", f"ckpt_path={run}", "datamodule.root=new"]))
    for key in ("module.classes", "module.exclusive"):  # of experiments that take them from data
        if str(OmegaConf.to_container(cfg.module)[key[7:]]).startswith("${data:"):
            OmegaConf.update(cfg, key, ["a"] if key.endswith("classes") else False)
    check_arguments(cfg.datamodule)
    assert cfg.datamodule._target_.endswith("FolderDataModule") and cfg.datamodule.phantom is None


def test_the_folder_of_the_run_is_predicted_as_the_data_set_that_it_is(tmp_path):
    (tmp_path / "data").mkdir()
    config = {"datamodule": {"root": str(tmp_path / "data"), "phantom": None}}
    run = _write_run(tmp_path / "run", ["experiment=demo", "datamodule.seed=4"], config)
    words = recompose(["do=predict", f"ckpt_path={run}", f"datamodule.root={tmp_path}/data"])
    assert "datamodule=folder" not in words and "datamodule.seed=4" in words


def test_a_given_data_set_is_kept_for_a_prediction(tmp_path):
    run = _write_run(tmp_path / "run", ["experiment=demo"])
    given = ["datamodule=table", "datamodule.root=new"]
    assert "datamodule=folder" not in recompose(["do=predict", f"ckpt_path={run}", *given])


def test_a_test_on_other_data_writes_no_phantoms_there(tmp_path):
    run = _write_run(tmp_path / "run", ["experiment=demo"])
    words = recompose(["do=test", f"ckpt_path={run}", "datamodule.root=new"])
    assert "datamodule.phantom=null" in words and "datamodule=folder" not in words


def test_real_data_are_found_where_the_run_read_them(tmp_path):
    data = tmp_path / "my data"
    data.mkdir()
    config = {"datamodule": {"root": str(data), "phantom": None}}
    run = _write_run(tmp_path / "run", ["experiment=demo"], config)
    assert f'datamodule.root="{data}"' in recompose(["do=test", f"ckpt_path={run}"])


def test_a_relative_path_is_that_of_the_folder_in_which_the_run_was_started(tmp_path):
    (tmp_path / "started" / "files").mkdir(parents=True)
    words = ["experiment=demo", "datamodule.root=files"]
    run = _write_run(tmp_path / "run", words, runtime={"cwd": str(tmp_path / "started")})
    assert f"datamodule.root={tmp_path}/started/files" in recompose(["do=test", f"ckpt_path={run}"])


def test_a_fit_is_continued_with_its_own_words_where_none_are_given(tmp_path):
    run = _write_run(tmp_path / "run", ["experiment=demo", "trainer.max_epochs=9"])
    assert "trainer.max_epochs=9" in recompose([f"ckpt_path={run}"])
    given = ["experiment=demo", f"ckpt_path={run}"]
    assert recompose(given) == given


def test_keys_of_a_group_that_the_command_replaces_are_not_taken(tmp_path):
    own = ["experiment=demo", "callbacks.report.cases=0", "module.net.encoder_depth=3", "seed=1"]
    run = _write_run(tmp_path / "run", own)
    words = recompose(["do=test", f"ckpt_path={run}", "callbacks=[checkpoint]", "module/net=fpn"])
    assert words[:3] == ["experiment=demo", "seed=1", "do=test"]


def test_an_ensemble_takes_the_words_of_its_first_fold_but_its_fold(tmp_path):
    for fold in range(2):
        _write_run(tmp_path / "run" / f"fold{fold}", ["experiment=demo", "folds=2", f"fold={fold}"])
    words = recompose(["do=test", f"ckpt_path={tmp_path / 'run'}"])
    assert "folds=2" in words and not any(word.startswith("fold=") for word in words)


def test_a_checkpoint_outside_of_a_run_needs_its_experiment(tmp_path):
    (tmp_path / "some.ckpt").touch()
    with pytest.raises(UserError, match=r"some\.ckpt lies in no run folder"):
        recompose(["do=test", f"ckpt_path={tmp_path}/some.ckpt"])
    given = ["do=test", "experiment=demo", f"ckpt_path={tmp_path}/some.ckpt"]
    assert recompose(given) == given


NET = {"net": {"encoder": {"name": "resnet18"}, "classes": 1}, "optimizer": {"lr": 0.1}}
CONFIG = {"image_size": 96, "evaluation_size": "native", "datamodule": {"channels": 1}}


def _check(tmp_path: Path, changed: dict, overrides: list[str]) -> None:
    run = _write_run(tmp_path / "run", ["experiment=demo"], CONFIG | {"module": NET})
    now = OmegaConf.merge(CONFIG | {"module": NET}, changed)
    check_unchanged(now, run, ["experiment=demo", *overrides])


def test_a_network_whose_conf_files_changed_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"module.net.encoder.name=resnet34.* has resnet18") as told:
        _check(tmp_path, {"module": {"net": {"encoder": {"name": "resnet34"}}}}, [])
    assert "set module.net.encoder.name=resnet18" in str(told.value)


@pytest.mark.parametrize("changed", [{"image_size": 128}, {"datamodule": {"channels": 3}}])
def test_another_input_is_refused_by_name(tmp_path, changed):
    with pytest.raises(UserError, match="the files of conf/ have changed since that run"):
        _check(tmp_path, changed, [])


@pytest.mark.parametrize(
    ("changed", "overrides"),
    [
        ({"module": {"optimizer": {"lr": 9.0}}}, []),
        (
            {"module": {"net": {"encoder": {"name": "resnet34"}}}},
            ["module.net.encoder.name=resnet34"],
        ),
        ({"module": {"net": {"encoder": {"name": "resnet34"}}}}, ["module/net=other"]),
        ({"image_size": 128}, ["image_size=128"]),
    ],
)
def test_settings_of_the_training_and_words_of_the_command_may_differ(tmp_path, changed, overrides):
    _check(tmp_path, changed, overrides)
