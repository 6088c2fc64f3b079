"""Curriculum: stages of training with their own learning rate, sampling and image size."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from lightning.pytorch.utilities import rank_zero_only

from callbacks.curriculum_stage import StageConfig, Stages, check_total_epochs
from datamodules.arguments import FilePath, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write, copy_atomic
from datamodules.image_size import ImageSize
from datamodules.sampling.config import EpochConfig
from lightning_modules import checkpoint_io
from lightning_modules.base import SupervisedModule
from lightning_modules.networks.encoder import check_freezable, refuse_rates
from lightning_modules.optim import batches_per_epoch
from reporting.run_folder import STAGES_FILE


def set_epoch_length(trainer: Trainer) -> None:
    """Set the number of batches of the running epoch in Lightning.

    Lightning counts them once per fit, but the length of an epoch changes with the stage and with
    the fraction of positives.
    """
    length = batches_per_epoch(trainer)
    loop = trainer.fit_loop
    if loop._combined_loader is not None:
        loop._combined_loader.limits = [length]
    loop.max_batches = trainer.val_check_batch = length
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau:
            config.frequency = length


def check_callbacks(trainer: Trainer) -> None:
    """Refuse callbacks that cannot be combined with stages.

    Raises:
        UserError: There is such a callback; the message names it.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping):
            raise UserError(
                "early_stopping would end a curriculum early; remove it from callbacks=[...], and"
                " set the patience of stages instead"
            )
        if isinstance(callback, WeightAveraging):
            raise UserError(
                "weight averaging cannot be combined with stages; remove ema and swa from"
                " extra=[...],"
                " or train without a curriculum"
            )


def check_stages(
    stages: Sequence[StageConfig],
    module: SupervisedModule,
    data: ManifestDataModule,
    world_size: int,
) -> None:
    """Refuse stages that this data or this module cannot provide.

    Raises:
        UserError: A stage is refused; the message names the stage and the key.
    """
    frozen = [stage.freeze_encoder for stage in stages]
    if world_size > 1 and any(frozen) and not all(frozen):
        raise UserError(
            "freeze_encoder in only some stages works on one device only, because DDP selects the"
            " parameters at the start; freeze it in all stages or in none"
        )
    if frozen and all(frozen):
        reason = "all stages of callbacks.curriculum.stages freeze the encoder"
        refuse_rates(module.encoder_lr_mult, module.layer_decay, reason)
    for number, stage in enumerate(stages):
        where = f"callbacks.curriculum.stages[{number}]"
        for epoch in (0, stage.epochs - 1):
            data.pool.check(stage.epoch_config(data.base_epoch_config, epoch), where)
        if stage.image_size is not None and not data.cache_size.covers(
            ImageSize.from_config(stage.image_size)
        ):
            kept = f"datamodule.cache_size={data.cache_size}"
            raise UserError(
                f"{where}.image_size={stage.image_size} is larger than {kept}; set"
                f" datamodule.cache_size={stage.image_size}"
            )
        if stage.loss_weights is not None:
            _check_loss_terms(stage, module, where)
        if stage.freeze_encoder:
            check_freezable(module.net, f"{where}.freeze_encoder", "remove it from the stage")
        first = stage.epoch_config(data.base_epoch_config, 0)
        if first.batch_size == 1 or first.image_size != data.image_size:
            try:
                module.check_input(first.image_size, first.batch_size)
            except UserError as refusal:
                raise UserError(f"{where}: {refusal}") from refusal


def _check_loss_terms(stage: StageConfig, module: SupervisedModule, where: str) -> None:
    terms = sorted(getattr(module.loss, "weights", {}))
    if sorted(stage.loss_weights or ()) != terms:
        hint = (
            f"set one weight for each of {', '.join(terms)}"
            if terms
            else "choose a sum of losses, such as module/loss=dice_focal_tversky"
        )
        raise UserError(
            f"{where}.loss_weights={dict(stage.loss_weights or {})} are not those of module.loss;"
            f" {hint}"
        )


@dataclass
class CurriculumState:
    """State of a curriculum, from which a fit can be resumed.

    Attributes:
        starts: First epoch of every stage that is known so far.
        entered: Number of stages whose settings the optimizer already has.
        score: Best score of the running stage; None before the first validation.
        epoch: Epoch of the best score.
        worse: Number of validations since then.
        ended: True if the last stage is over.
        history: Settings and scores of every stage that was entered.
    """

    starts: list[int] = field(default_factory=lambda: [0])
    entered: int = 1
    score: float | None = None
    epoch: int | None = None
    worse: int = 0
    ended: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def file(self) -> str:
        """Name of the checkpoint of the running stage's best weights."""
        return f"stage{self.entered - 1}.ckpt"

    def enter_stage(self) -> None:
        """Enter the latest stage."""
        self.entered = len(self.starts)
        self.score, self.epoch, self.worse = None, None, 0

    def record_stage(self, stage: StageConfig) -> None:
        """Start the history of a stage that was just entered."""
        if len(self.history) < self.entered:
            self.history.append(
                {
                    "stage": self.entered - 1,
                    "first_epoch": self.starts[-1],
                    "asked": stage.as_dict(),
                    "scores": [],
                }
            )

    def update_best(
        self, epoch: int, score: float | None, mode: str, metrics: dict[str, float]
    ) -> bool:
        """Record an epoch's score, and return True if it is the best of the stage.

        Args:
            epoch: Number of the epoch.
            score: Monitored score; None if the epoch was not validated.
            mode: `max` or `min`.
            metrics: All scores of the validation, by name.
        """
        better = score is not None and (
            self.score is None or (score > self.score if mode == "max" else score < self.score)
        )
        if better:
            self.score, self.epoch, self.worse = score, epoch, 0
        elif score is not None:
            self.worse += 1
        self.history[-1]["scores"].append({"epoch": epoch, "score": score, "metrics": metrics})
        self.history[-1]["best"] = {"epoch": self.epoch, "score": self.score}
        return better

    def maybe_advance(self, epoch: int, stages: Sequence[StageConfig]) -> None:
        """Decide at the end of an epoch to stay in the stage, to start the next one, or to end."""
        stage = stages[self.entered - 1]
        if epoch + 1 < self.starts[-1] + stage.epochs and not (
            stage.patience is not None and self.worse >= stage.patience
        ):
            return
        if self.entered < len(stages):
            self.starts.append(epoch + 1)
        else:
            self.ended = True

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def restore(cls, state: dict[str, Any], stages: Sequence[StageConfig]) -> "CurriculumState":
        """Restore from the values of `as_dict`.

        Raises:
            UserError: The stages trained so far belong to another curriculum.
        """
        found = cls(**state)
        asked = [stage.as_dict() for stage in stages[: len(found.history)]]
        if len(found.starts) > len(stages) or [stage["asked"] for stage in found.history] != asked:
            fix = "continue with the same stages, or start from its weights with init_from=..."
            raise UserError(
                f"the checkpoint belongs to another curriculum: its first {len(found.history)}"
                f" stage(s) differ; {fix}"
            )
        return found

    def copy_stage_checkpoints(self, before: Path, folder: Path) -> None:
        """Copy the best weights of the stages so far into the folder of the resumed run.

        Raises:
            UserError: Those of the running stage are missing.
        """
        if before.resolve() == folder.resolve():
            return
        if self.score is not None and not (before / self.file).is_file():
            missing = before / self.file
            raise UserError(
                f"{missing}, the best weights of the stage to continue, does not exist; restore it,"
                " or start with init_from=..."
            )
        _copy_stages(before, folder)


@rank_zero_only
def _copy_stages(before: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in before.glob("stage*.ckpt"):
        copy_atomic(path, folder / path.name)


@validated
class Curriculum(Callback):
    """Curriculum of several stages within one fit.

    It writes `checkpoints/stage<i>.ckpt`, the best weights of each stage, and `stages.json`.

    Example:
        callbacks:
          curriculum:
            stages:
              - {epochs: 30, lr: 3e-4, image_size: 512, positive_fraction: .7}
              - {epochs: 40, lr: 1e-5, image_size: 768, positive_fraction: {from: .5, to: .22},
                  patience: 10}

    Args:
        stages: List of stages with the keys of `StageConfig` (a list, because Hydra replaces lists
            but merges dicts).
        epochs: Number of epochs of the whole fit, which must be the sum over stages.
        run_dir: Run folder.
    """

    def __init__(self, stages: Stages, epochs: int, run_dir: FilePath) -> None:
        check_total_epochs([stage.epochs for stage in stages], epochs)
        self.stages = stages
        self.run_dir = Path(run_dir)
        self.progress = CurriculumState()
        self._trainer: Trainer | None = None  # set during a fit
        self._validated = -1  # the last epoch that was validated

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check every stage against the data, and give the sampler the configuration of epochs."""
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
        """Return the configuration of an epoch; the sampler calls this at its start."""
        starts = self.progress.starts
        number = max(i for i, start in enumerate(starts) if start <= epoch)
        return self.stages[number].epoch_config(
            self._data.base_epoch_config, epoch - starts[number]
        )

    @property
    def stage(self) -> StageConfig:
        """Stage that was entered last."""
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
            self._module.freeze_encoder(stage.freeze_encoder)
        self.progress.record_stage(stage)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Unfreeze the encoder, so that the network is as it was built."""
        if stage != "fit":
            return
        self._trainer = None
        if self._freezes_encoder and isinstance(pl_module, SupervisedModule):
            pl_module.freeze_encoder(False)

    @property
    def _freezes_encoder(self) -> bool:
        return any(stage.freeze_encoder for stage in self.stages)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare an epoch that is resumed in its middle; a finished curriculum stays finished."""
        set_epoch_length(trainer)
        trainer.should_stop = trainer.should_stop or self.progress.ended

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enter the next stage at its first epoch, and set the length of this epoch."""
        if self.progress.entered < len(self.progress.starts):
            self._enter_stage(trainer, pl_module)
        set_epoch_length(trainer)

    def _enter_stage(self, trainer: Trainer, module: LightningModule) -> None:
        if self.progress.score is not None:
            module.load_state_dict(
                checkpoint_io.read_checkpoint(self._checkpoint_folder / self.progress.file)[
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
        """Record that this epoch was validated, so that the scores belong to it."""
        self._validated = -1 if trainer.sanity_checking else trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the stage's best weights and decide if it ends, before last.ckpt is written."""
        epoch, monitor = trainer.current_epoch, self._module.monitor
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        metrics = metrics if self._validated == epoch else {}
        saved = not trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.progress.update_best(
            epoch, metrics.get(monitor.name) if saved else None, monitor.mode, metrics
        ):
            trainer.save_checkpoint(self._checkpoint_folder / self.progress.file, weights_only=True)
        self.progress.maybe_advance(epoch, self.stages)
        trainer.should_stop = trainer.should_stop or self.progress.ended
        if saved:
            self._write_stages()

    @rank_zero_only
    def _write_stages(self) -> None:
        """Write what the page shows of the stages so far."""
        atomic_write(
            self.run_dir / STAGES_FILE, json.dumps(self.progress.history, indent=2).encode()
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a fit is resumed."""
        return self.progress.as_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume in the checkpoint's stage; copy the stages' best weights into a new run folder."""
        if self._trainer is None:
            return  # a test has no stage, and its checkpoint knows fewer of them than the fit did
        self.progress = CurriculumState.restore(state_dict, self.stages)
        if self._trainer.ckpt_path:
            self.progress.copy_stage_checkpoints(
                Path(self._trainer.ckpt_path).parent, self._checkpoint_folder
            )
            self._write_stages()
        self._apply_stage()
