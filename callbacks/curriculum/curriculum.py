"""Trains in stages within one fit: each starts from the best weights of the one before, with its own rate, images and optimizer."""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.curriculum.checks import refuse_neighbours, refuse_stages
from callbacks.curriculum.length import tell_length
from callbacks.curriculum.stage import stages_of
from datamodules.plan import Plan
from datamodules.refusal import Refusal
from lightning_modules import checkpoints
from lightning_modules.supervised import SupervisedModule


class Curriculum(Callback):
    """Stages within one fit; leaves `checkpoints/stage<i>.ckpt`, the best weights of each, and `stages.json`.

    Example:
        callbacks:
          curriculum:
            stages:
              - {epochs: 30, lr: 3e-4, image_size: 512, positive_fraction: .7}
              - {epochs: 40, lr: 1e-5, image_size: 768, positive_fraction: {from: .5, to: .22}, patience: 10}

    Args:
        stages: A list, because Hydra replaces lists and merges dicts; the keys of a stage are those of `Stage`.
        epochs: Those of the whole fit, which the stages must add up to.
        run_dir: The run folder.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]], epochs: int, run_dir: str) -> None:
        self.stages = stages_of(stages, epochs)
        self.run_dir = Path(run_dir)
        self._clear()

    def _clear(self) -> None:
        self.starts = [0]  # first epoch of every stage that was decided on
        self.entered = 1  # how many of them the optimizer knows of
        self.best: dict[str, Any] = {"score": None, "epoch": None, "path": None}  # of the running stage
        self.history: list[dict[str, Any]] = []  # of every stage that was entered

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks every stage against the data, and lets sampler and optimizer ask here what holds."""
        if stage != "fit" or not isinstance(pl_module, SupervisedModule):
            return
        refuse_neighbours(trainer)
        self._clear()
        loss = getattr(pl_module.loss, "weights", None)
        self._module, self._original = pl_module, (pl_module.optimizer, pl_module.scheduler, loss)
        self._data = trainer.datamodule  # type: ignore[attr-defined]
        refuse_stages(self.stages, pl_module, self._data)
        self._data.plan = self.plan
        self._apply()

    def plan(self, epoch: int) -> Plan:
        """What holds in an epoch of the fit; the sampler asks at its start."""
        number = max(i for i, start in enumerate(self.starts) if start <= epoch)
        return self.stages[number].plan(self._data.base_plan, epoch - self.starts[number])

    def _apply(self) -> None:
        """Makes the module's optimizer, schedule, loss and frozen layers those of the stage entered last."""
        stage, first = self.stages[self.entered - 1], self.starts[self.entered - 1]
        optimizer, scheduler, weights = self._original
        self._module.optimizer = partial(optimizer, lr=stage.lr) if stage.lr else optimizer
        chosen = stage.scheduler or scheduler
        self._module.scheduler = partial(chosen, span=range(first, first + stage.epochs)) if chosen else None
        if weights is not None:
            self._module.loss.reweigh(stage.loss_weights or weights)  # type: ignore[operator]
        if any(stage.freeze_encoder for stage in self.stages):
            self._module.net.encoder.requires_grad_(not stage.freeze_encoder)  # type: ignore[union-attr,operator]
        if len(self.history) < self.entered:
            self.history.append({"stage": self.entered - 1, "first_epoch": first, "asked": stage.asked(), "scores": []})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enters the next stage where it begins, and tells Lightning how long this epoch is."""
        if self.entered < len(self.starts):
            self._enter(trainer, pl_module)
        if self.stages[self.entered - 1].freeze_encoder:
            pl_module.net.encoder.eval()  # type: ignore[union-attr,operator]  # its BatchNorm statistics stay too
        tell_length(trainer)

    def _enter(self, trainer: Trainer, module: LightningModule) -> None:
        if self.best["path"] is not None:
            module.load_state_dict(checkpoints.read(Path(self.best["path"]))["state_dict"])
        self.entered = len(self.starts)
        self.best = {"score": None, "epoch": None, "path": None}
        self._apply()
        trainer.strategy.setup_optimizers(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the stage's best weights and decides whether it goes on; runs before last.ckpt is written."""
        epoch, number = trainer.current_epoch, self.entered - 1
        score = self._judge(trainer, epoch)
        self.history[number]["scores"].append({"epoch": epoch, "score": score})
        self.history[number]["best"] = {"epoch": self.best["epoch"], "score": self.best["score"]}
        stage, patience = self.stages[number], self.stages[number].patience
        since = epoch - (self.starts[number] - 1 if self.best["epoch"] is None else self.best["epoch"])
        if epoch + 1 == self.starts[number] + stage.epochs or (patience is not None and since >= patience):
            if number + 1 < len(self.stages):
                self.starts.append(epoch + 1)
            else:
                trainer.should_stop = True
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            (self.run_dir / "stages.json").write_text(json.dumps(self.history, indent=2), encoding="utf-8")

    def _judge(self, trainer: Trainer, epoch: int) -> float | None:
        """The monitored score of the epoch; the weights are saved where it is the stage's best."""
        monitor = self._module.monitor
        value = trainer.callback_metrics.get(monitor["name"])
        if value is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        score, best = float(value), self.best["score"]
        if best is None or (score > best if monitor["mode"] == "max" else score < best):
            path = self.run_dir / "checkpoints" / f"stage{self.entered - 1}.ckpt"
            self.best = {"score": score, "epoch": epoch, "path": str(path)}
            trainer.save_checkpoint(path, weights_only=True)
        return score

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed fit must know."""
        return {"starts": self.starts, "entered": self.entered, "best": self.best, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on in the stage of the checkpoint; its best weights so far are taken along into a new run folder."""
        if not hasattr(self, "_module"):
            return  # a test asks for no stage
        for name, value in state_dict.items():
            setattr(self, name, value)
        if len(self.starts) > len(self.stages) or self.history[0]["asked"] != self.stages[0].asked():
            raise Refusal("the checkpoint is of another curriculum; go on with the same stages, or start from its weights with init_from=...")
        own = self.run_dir / "checkpoints"
        if self.best["path"] is not None and Path(self.best["path"]).parent != own:
            self.best["path"] = str(_taken_along(Path(self.best["path"]), own))
        self._apply()


def _taken_along(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise Refusal(f"{path}, the best weights of the stage that is gone on with, does not exist; bring it back, or start anew with init_from=...")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(path, folder / path.name))
