"""Every file in conf/experiment: it composes at both scales, and runs at demo scale."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer

from datamodules.base import ManifestDataModule
from engine import runner
from engine.composition import compose_run, composed_run
from engine.config_check import check_arguments, check_curriculum, check_keys
from engine.data_classes import set_known_classes
from lightning_modules.base import EvaluatedModule
from lightning_modules.instantiation import instantiate_config
from lightning_modules.losses import BCELoss, ClassBalancedBCELoss

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
ROOT_FILE = yaml.safe_load((CONF / "run.yaml").read_text(encoding="utf-8"))
PARTS = ("datamodule", "module", "callbacks", "trainer", "logger")
ROOT_KEYS = {*ROOT_FILE, *PARTS} - {"defaults", "hydra"}
SMALL_PHANTOMS = {  # of each function that writes phantoms
    "bone_scan": {"patients": 60, "height": 128},
    "brain_tumor": {"train": 16, "valid": 6, "test": 6},
    "chest_findings": {"train": 16, "val": 8, "test": 8},
    "chest_xray": {"patients": 48},
    "chestx_det": {"train": 50, "test": 20},
    "pneumothorax": {"images": 90, "size": 64},
}


@dataclass
class Fit:
    """One fit and what was seen of it."""

    trainer: Trainer
    module: EvaluatedModule
    data: ManifestDataModule
    before: dict[str, torch.Tensor]
    steps: list[tuple[dict[str, Any], float]]
    score: float | None = None


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """Record every fit: its weights before, its training batches, losses and score."""
    found: list[Fit] = []
    run_stages, training_step = runner.run_stages, EvaluatedModule.training_step

    def recorded_stages(cfg, trainer, module, data, ensemble):
        before = {name: value.detach().clone() for name, value in module.named_parameters()}
        found.append(Fit(trainer, module, data, before, []))
        found[-1].score = run_stages(cfg, trainer, module, data, ensemble)
        return found[-1].score

    def recorded_step(self, batch, batch_idx):
        loss = training_step(self, batch, batch_idx)
        found[-1].steps.append((batch, float(loss.detach())))
        return loss

    monkeypatch.setattr(runner, "run_stages", recorded_stages)
    monkeypatch.setattr(EvaluatedModule, "training_step", recorded_step)
    return found


def check_composition(experiment: str, scale: str, folder: Path) -> Any:
    """Compose an experiment, make all its parts but the network, and return its configuration."""
    words = [f"experiment={experiment}", f"scale={scale}", "trainer.accelerator=cpu"]
    with composed_run(compose_run(words), words, folder) as cfg:
        assert set(cfg) == ROOT_KEYS
        check_keys(cfg)
        check_arguments(cfg)
        check_curriculum(cfg)
        set_known_classes(cfg)
        assert set(runner.build_callbacks(cfg)) == set(
            cfg.callbacks
        )  # a misspelt one has no target
        cfg.trainer.precision, cfg.trainer.sync_batchnorm = "32-true", False
        trainer = instantiate_config(cfg.trainer, logger=False)
        data = instantiate_config(cfg.datamodule)
        assert trainer.max_epochs == cfg.trainer.max_epochs
        assert data.image_size.as_config == cfg.image_size
        weights = torch.nn.Parameter(torch.zeros(1))
        optimizer = instantiate_config(cfg.module.optimizer)([weights])
        assert optimizer.param_groups[0]["lr"] == cfg.module.optimizer.lr
        return cfg


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_at_both_scales_and_trains_and_evaluates_one_batch(
    experiment, cli: Callable, fits, request, tmp_path
):
    check_composition(experiment, "full", tmp_path / "full")
    cfg = check_composition(experiment, "demo", tmp_path / "demo")
    words = [f"experiment={experiment}", "scale=demo", "trainer.accelerator=cpu"]
    if cfg.datamodule.get("phantom"):
        kind = cfg.datamodule.phantom._target_.split(".")[-2]
        words += [f"datamodule.phantom.{key}={n}" for key, n in SMALL_PHANTOMS[kind].items()]
    else:  # its data is the output of another run
        words.append(f"datamodule.root={request.getfixturevalue('bone_chain')}")
    code, said = cli(*words, "trainer.fast_dev_run=true", "trainer.enable_progress_bar=false")
    assert code == 0, said
    assert len(fits) == max(1, cfg.folds)
    for fit in fits:
        check_fit(fit)
    assert not list((tmp_path / "run").rglob("*.ckpt"))  # a trial of one batch leaves no result
    assert not list((tmp_path / "run").rglob("report.*"))


def check_class_weights(fit: Fit) -> None:
    """A loss that weighs classes by their rarity in train has got the numbers of this train."""
    for term in fit.module.loss.modules():
        if isinstance(term, ClassBalancedBCELoss) and not term.weights_given:
            there = fit.data.pixels
            each = there.sum(1, keepdims=True) / (2 * np.maximum(there, 1))
            wanted = np.where((there > 0).all(1, keepdims=True), each, 1)
            assert (wanted != 1).any() and term.weights.tolist() == pytest.approx(wanted, rel=1e-5)
        if isinstance(term, BCELoss) and term.weight_from_train:
            rest, there = fit.data.images.T
            assert term.pos_weight.tolist() == pytest.approx(rest / there, rel=1e-5)


def check_fit(fit: Fit) -> None:
    """One step on train, one batch of val and test; only what is to be trained has changed."""
    assert fit.trainer.global_step == len(fit.steps) == 1
    rows = fit.data.table.rows
    split = dict(zip(rows["id"], rows["split"], strict=True))
    ((batch, loss),) = fit.steps
    plan = fit.data.epoch_config(0)
    assert math.isfinite(loss) and fit.score is not None and math.isfinite(fit.score)
    assert len(batch["id"]) == plan.batch_size and {split[id] for id in batch["id"]} == {"train"}
    assert tuple(batch["image"].shape[-2:]) == tuple(plan.image_size)
    assert batch["image"].float().std() > 0
    assert set(fit.module.evidence) == {"val", "test"}
    for name, evidence in fit.module.evidence.items():
        there = [id for id in split if split[id] == name]
        assert evidence.ids.tolist() == there[: fit.data.eval_batch_size]
        assert evidence.classes == fit.data.table.classes
    check_class_weights(fit)
    after = dict(fit.module.named_parameters())
    changed = {name for name, value in after.items() if not torch.equal(value, fit.before[name])}
    trained = {name for name, value in after.items() if value.requires_grad}
    assert changed and changed <= trained
    assert all(value.isfinite().all() for value in after.values())
