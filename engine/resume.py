"""Resumption of a stopped run: last checkpoint and comparison of settings.

A run that was stopped by SIGINT or SIGTERM has `checkpoints/last.ckpt` (see
callbacks/graceful_shutdown.py). `ckpt_path=RUN` continues from it in a new folder; `resume=auto`,
and a requeued Slurm job, continue in the same folder. Imports nothing heavy.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from datamodules.arguments import format_config_value
from datamodules.errors import UserError
from lightning_modules.instantiation import plain_config
from lightning_modules.launch_environment import is_requeued

if TYPE_CHECKING:
    from lightning import Trainer

    from datamodules.base import ManifestDataModule


def find_resume_checkpoint(cfg: DictConfig) -> Path | None:
    """Return the run's own last.ckpt if it resumes by `resume=auto` or a requeued Slurm job.

    Raises:
        UserError: The run was trained, and its last.ckpt is missing.
    """
    folder = Path(cfg.paths.run)
    last = folder / "checkpoints" / "last.ckpt"
    if not (cfg.resume == "auto" or is_requeued()) or "fit" not in cfg.do:
        return None
    if last.is_file():
        return last
    best = last.with_name("best.ckpt")
    if best.is_file() and _has_later_epochs(folder):
        raise UserError(
            f"{last} is missing, and a new training would replace {best}; continue from the best"
            f" epoch with ckpt_path={best} (without resume=auto), or train in another folder"
        )
    return None


def _has_later_epochs(folder: Path) -> bool:
    """Return True if metrics.csv has rows after the first epoch, before which last.ckpt is written.

    A run that was killed in its first epoch may have a best.ckpt, and starts again.
    """
    from reporting.run_folder import RunFolder

    rows = csv.DictReader(io.StringIO(RunFolder(folder).metrics_text))
    return any(float(row.get("epoch") or 0) >= 1 for row in rows)


SETTING_KEYS = (  # settings of the training that a checkpoint's state could override unnoticed
    *("monitor", "module.net", "module.optimizer", "module.scheduler", "module.loss"),
    *("module.encoder_lr_mult", "module.layer_decay", "module.auxiliary_weight"),
    *(
        "datamodule.image_size",
        "datamodule.batches_per_epoch",
        "datamodule.sampling",
        "datamodule.augmentation",
        "datamodule.window",
        "datamodule.frame",
    ),
    *(
        "datamodule.seed",
        "datamodule.split",
        "datamodule.folds",
        "datamodule.fold",
        "datamodule.fold_pool",
        "datamodule.near_duplicates",
    ),
    *(
        "trainer.accumulate_grad_batches",
        "trainer.gradient_clip_val",
        "trainer.gradient_clip_algorithm",
    ),
    *(f"callbacks.early_stopping.{name}" for name in ("monitor", "mode", "patience", "min_delta")),
    *("callbacks.ema.decay", "callbacks.swa.start_epoch"),
    *("callbacks.freeze_encoder.epochs", "callbacks.freeze_encoder._target_"),  # epochs may be null
)
IGNORED_KEYS = (
    "weights",
    "weights_folder",
    "gradient_checkpointing",
)  # last parts of keys of weights, which those of a checkpoint replace
STEPS, IMAGES = "steps of the schedule", "images a step"
FIXED_KEYS = (
    "module.optimizer._target_",
    "module.scheduler._target_",
    "module.encoder_lr_mult",
    "module.layer_decay",
    "callbacks.freeze_encoder.epochs",
    "callbacks.freeze_encoder._target_",
)  # keys for which the checkpoint's state would not fit


def resume_settings(
    cfg: DictConfig, trainer: "Trainer", data: "ManifestDataModule"
) -> dict[str, Any]:
    """Return key -> plain value of all settings that a resumed fit must share with its checkpoint.

    Args:
        cfg: Configuration of the run.
        trainer: Trainer of the fit.
        data: Data module, for the number of steps per epoch.
    """
    from lightning_modules.optim import STEP_DEPENDENT_SCHEDULES, total_steps

    found: dict[str, Any] = {}
    for key in SETTING_KEYS:
        found |= _iter_leaves(key, plain_config(cfg, key))
    found = {
        key: value
        for key, value in found.items()
        if key.rpartition(".")[2] not in IGNORED_KEYS or key.startswith("module.loss")
        if not (
            key.startswith("module.net") and key.endswith(".image_size")
        )  # the image size follows the data
    }
    # two devices with half the batch size take the same steps
    found[IMAGES] = cfg.datamodule.batch_size * trainer.world_size
    spans_fit = (
        str(OmegaConf.select(cfg, "module.scheduler._target_")).rpartition(".")[2]
        in STEP_DEPENDENT_SCHEDULES
    )
    if spans_fit and "curriculum" not in cfg.callbacks:  # a curriculum compares its own stages
        found[STEPS] = total_steps(trainer, data=data)
    return found


def check_settings(
    now: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    path: Path,
    apply: bool,
    epochs: int | None,
) -> bool:
    """Refuse to resume a fit with settings that differ from its checkpoint's.

    Otherwise the checkpoint's settings would be used while the new ones are reported.

    Args:
        now: Settings of this run, from `resume_settings`.
        checkpoint: The checkpoint that the fit resumes from.
        path: File of the checkpoint.
        apply: True to apply the new settings.
        epochs: Epochs of the fit; if none is left to train, the schedule's steps are not compared.

    Returns:
        True if settings differ and are to be applied.

    Raises:
        UserError: It is refused; the message names the settings, both values and what to do.
    """
    then = checkpoint.get("settings")
    if not then:
        raise UserError(
            f"{path} does not record the settings of its training, so they cannot be compared; set"
            f" init_from={path}"
        )
    changed = [key for key in dict.fromkeys([*then, *now]) if then.get(key) != now.get(key)]
    if epochs is not None and 0 <= epochs <= checkpoint["epoch"] + 1:
        changed = [key for key in changed if key != STEPS]  # no epoch is left to train
    differ = bool(changed)
    if apply:
        changed = [key for key in changed if key in FIXED_KEYS]
    if changed:
        were, are = (
            ", ".join(f"{key}={format_config_value(of.get(key))}" for key in changed[:4])
            for of in (then, now)
        )
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        keys = [
            f"{key}={format_config_value(then.get(key))}"
            for key in changed[:4]
            if key not in (STEPS, IMAGES)
        ]
        keys += ["datamodule.batch_size and trainer.devices as they were"] * (IMAGES in changed)
        keys += ["trainer.max_epochs, max_steps, limit_train_batches and the data as they were"] * (
            STEPS in changed and IMAGES not in changed
        )
        fix = f"set {', '.join(keys)}"
        other = (
            "start from its weights with init_from=..."
            if apply
            else "changed_settings=apply to continue with the new values"
        )
        raise UserError(
            f"{path} was trained with {were}{more}, but this run has {are}{more}; {fix}, or {other}"
        )
    return differ


def _iter_leaves(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            name: leaf
            for part, inner in value.items()
            for name, leaf in _iter_leaves(f"{key}.{part}", inner).items()
        }
    return {key: value}
