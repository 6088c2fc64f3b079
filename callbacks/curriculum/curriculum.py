"""Train in stages within one fit, each starting from the best weights of the one before.

Each stage has its own learning rate, images and optimizer.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.curriculum.checks import check_callbacks, check_stages
from callbacks.curriculum.length import set_epoch_length
from callbacks.curriculum.progress import CurriculumState
from callbacks.curriculum.stage import StageConfig, parse_stages
from datamodules.arguments import FilePath, validated
from datamodules.plan import EpochConfig
from lightning_modules import checkpoints
from lightning_modules.supervised import SupervisedModule


@validated
class Curriculum(Callback):
    """Stages within one fit.

    Leaves `checkpoints/stage<i>.ckpt`, the best weights of each, and `stages.json`.

    Example:
        callbacks:
          curriculum:
            stages:
              - {epochs: 30, lr: 3e-4, image_size: 512, positive_fraction: .7}
              - {epochs: 40, lr: 1e-5, image_size: 768, positive_fraction: {from: .5, to: .22},
                  patience: 10}

    Args:
        stages: A list, because Hydra replaces lists and merges dicts; the keys of a stage are those
            of `Stage`.
        epochs: Those of the whole fit, which the stages must add up to.
        run_dir: The run folder.
    """

    def __init__(self, stages: Any, epochs: int, run_dir: FilePath) -> None:
        self.stages = parse_stages(stages, epochs)
        self.run_dir = Path(run_dir)
        self.progress = CurriculumState()
        self._trainer: Trainer | None = None  # in a fit
        self._validated = -1  # the epoch that was validated last

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check every stage against the data, and let the sampler ask here for its plan."""
        if stage != "fit" or not isinstance(pl_module, SupervisedModule):
            return
        check_callbacks(trainer)
        self.progress, self._validated = CurriculumState(), -1
        loss = getattr(pl_module.loss, "weights", None)
        self._trainer, self._module, self._original = (
            trainer,
            pl_module,
            (pl_module.optimizer, pl_module.scheduler, loss),
        )
        self._data = trainer.datamodule  # type: ignore[attr-defined]
        check_stages(self.stages, pl_module, self._data, trainer.world_size)
        self._data.epoch_config = self.epoch_config
        self._apply_stage()

    def epoch_config(self, epoch: int) -> EpochConfig:
        """Return the plan of an epoch of the fit; the sampler asks at its start."""
        starts = self.progress.starts
        number = max(i for i, start in enumerate(starts) if start <= epoch)
        return self.stages[number].epoch_config(
            self._data.base_epoch_config, epoch - starts[number]
        )

    @property
    def stage(self) -> StageConfig:
        """The stage that was entered last."""
        return self.stages[self.progress.entered - 1]

    def _apply_stage(self) -> None:
        """Set the module's optimizer, schedule, loss and frozen layers to the running stage's."""
        stage, first = self.stage, self.progress.starts[self.progress.entered - 1]
        optimizer, scheduler, weights = self._original
        self._module.optimizer = partial(optimizer, lr=stage.lr) if stage.lr else optimizer
        chosen = stage.scheduler or scheduler
        self._module.scheduler = (
            partial(chosen, span=range(first, first + stage.epochs)) if chosen else None
        )
        if weights is not None:
            self._module.loss.set_weights(stage.loss_weights or weights)  # type: ignore[operator]
        if self._freezes_encoder:
            self._module.net.encoder.requires_grad_(not stage.freeze_encoder)  # type: ignore[union-attr,operator]
        self.progress.record_stage(stage)

    @property
    def _freezes_encoder(self) -> bool:
        return any(stage.freeze_encoder for stage in self.stages)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch that is resumed in its middle; a fit that was over stays so."""
        self._begin_epoch(trainer)
        trainer.should_stop = trainer.should_stop or self.progress.ended

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enter the next stage where it begins, and tell Lightning the length of this epoch."""
        if self.progress.entered < len(self.progress.starts):
            self._enter_stage(trainer, pl_module)
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: Trainer) -> None:
        if self._freezes_encoder:  # the BatchNorm statistics of a frozen encoder stay too
            self._module.net.encoder.train(not self.stage.freeze_encoder)  # type: ignore[union-attr,operator]
        set_epoch_length(trainer)

    def _enter_stage(self, trainer: Trainer, module: LightningModule) -> None:
        if self.progress.score is not None:
            module.load_state_dict(
                checkpoints.read_checkpoint(self._checkpoint_folder / self.progress.file)[
                    "state_dict"
                ]
            )
        self.progress.enter_stage()
        self._apply_stage()
        trainer.strategy.setup_optimizers(trainer)

    @property
    def _checkpoint_folder(self) -> Path:
        return self.run_dir / "checkpoints"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch was validated, so that the scores are its own."""
        self._validated = -1 if trainer.sanity_checking else trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the stage's best weights and decide whether it ends; before last.ckpt is written."""
        epoch, monitor = trainer.current_epoch, self._module.monitor
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        metrics = metrics if self._validated == epoch else {}
        saved = not trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.progress.update_best(
            epoch, metrics.get(monitor["name"]) if saved else None, monitor["mode"], metrics
        ):
            trainer.save_checkpoint(self._checkpoint_folder / self.progress.file, weights_only=True)
        self.progress.maybe_advance(epoch, self.stages)
        trainer.should_stop = trainer.should_stop or self.progress.ended
        if trainer.is_global_zero and saved:
            (self.run_dir / "stages.json").write_text(
                json.dumps(self.progress.history, indent=2), encoding="utf-8"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed fit must know."""
        return self.progress.as_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume in the checkpoint's stage; copy the stages' best weights into a new run folder."""
        if self._trainer is None:
            return  # a test asks for no stage
        self.progress = CurriculumState.restore(state_dict, self.stages)
        if self._trainer.ckpt_path:
            self.progress.copy_stage_checkpoints(
                Path(self._trainer.ckpt_path).parent, self._checkpoint_folder
            )
        self._apply_stage()
