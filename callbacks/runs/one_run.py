"""Builds one run from the configuration, checks it, and runs fit, test and predict."""

import logging
import re
import warnings
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.fabric.plugins.environments import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf

from callbacks.dashboard.logger import close
from callbacks.interrupt import Interrupted
from callbacks.pruning import Pruned
from callbacks.report.report import Report
from callbacks.runs import outcome
from callbacks.runs.devices import ddp, refuse_devices, several_processes, uses_cuda
from callbacks.runs.launched import by_srun, rank
from callbacks.runs.out_of_memory import too_large
from callbacks.runs.plan import print_plan
from callbacks.runs.resume import refuse_changes, settings
from callbacks.runs.run_folder import locked
from callbacks.runs.seen_images import (
    Record,
    earlier_records,
    refuse_test_on_seen_images,
    size_is_given,
)
from callbacks.runs.steps import named, refuse, started_from, steps
from callbacks.sweeps.ensembling import FoldEnsemble
from datamodules.arguments import ArgumentError
from lightning_modules import checkpoints
from lightning_modules.memory import tune_malloc
from lightning_modules.precision import best_precision
from lightning_modules.training_record import check_same_task

# What a config may call. A callable that a target returns counts too, hence networks and pipelines.
WHITELIST = (
    *("datamodules.*", "lightning_modules.*", "callbacks.*", "lightning.*", "torch.*"),
    *(
        "albumentations.*",
        "segmentation_models_pytorch.*",
        "timm.*",
        "torchvision.*",
        "optuna.pruners.*",
    ),
)
NOISE = (  # warnings of libraries that no user of ours can act on
    ".*LeafSpec.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*does not have many workers.*",
    ".*The dirpath has changed from.*",
    ".*in eval mode at the start of training.*",  # a frozen body is meant to be
    ".*custom batch sampler `EvaluationKeys`.*",  # which returns every row once
    # a run on the login node is the user's choice
    ".*`srun` command is available on your system but is not used.*",
    # every rank has the gathered evidence, and the same score
    ".*It is recommended to use `self.log.*sync_dist.*",
    ".*WeightAveraging callback, but (loading|saving) a checkpoint outside.*",
)


def one_run(cfg: DictConfig, ensemble: FoldEnsemble | None = None) -> float | None:
    """Build the parts and run the steps; return the monitored score of a fit.

    Args:
        cfg: Configuration of the run.
        ensemble: Networks that are evaluated together, if `ckpt_path` or `init_from` names several.
    """
    if rank() != 0:
        return _one_run(cfg, ensemble)
    with locked(Path(cfg.paths.run), outcome.overrides() or []):
        return _one_run(cfg, ensemble)


def _one_run(cfg: DictConfig, ensemble: FoldEnsemble | None) -> float | None:
    prepare(cfg)
    refuse_devices(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    callbacks = callbacks_of(cfg)  # they refuse what cannot be before any image is read
    refuse(cfg, callbacks)
    loggers = [make(part) for part in cfg.logger.values()]
    data = make(cfg.datamodule)
    judged = named(cfg, "ckpt_path") or named(cfg, "init_from")
    if judged and "fit" not in cfg.do:
        data.size_is_given = size_is_given(data, judged)
        checkpoints.adopt_image_size(
            data, judged
        )  # no image is kept smaller than the network wants it
    data.prepare_data()  # the data is checked before a network is built
    records = earlier_records(cfg, ensemble)
    note = refuse_test_on_seen_images(cfg, data, records)
    if "fit" in cfg.do:
        _ = data.pool  # and so is what is to be drawn from it
    module = make(cfg.module)
    _refuse_other_task(cfg, records, module, data)
    if cfg.trainer.strategy == "auto" and several_processes(cfg):
        cfg.trainer.strategy = ddp(module)
    trainer = make(
        cfg.trainer, callbacks=list(callbacks.values()), logger=loggers, plugins=plugins()
    )
    if "fit" in cfg.do:
        module.settings = settings(cfg, trainer, data)
        module.earlier_records = [record for _, _, record in records if record is not None]
        if goes_on(cfg, trainer, module):
            note = ", ".join(filter(None, [note, "settings changed on the way"]))
    _note(cfg, callbacks, note)
    save_config(cfg)
    print_plan(cfg, trainer, module, data)
    code = 1
    try:
        score = _carried_out(cfg, trainer, module, data, ensemble)
        code = 0 if score is None or isfinite(score) else 1
        return score
    finally:
        close(loggers, code, trainer)  # else the next fit would write into the same W&B run


def _carried_out(
    cfg: DictConfig, trainer: Trainer, module: Any, data: Any, ensemble: FoldEnsemble | None
) -> float | None:
    """Run the steps and write how they ended to outcome.json.

    An interrupted run can be resumed and leaves none.
    """
    run = Path(cfg.paths.run)
    write = outcome.write if trainer.is_global_zero else lambda *about, **more: None
    if trainer.is_global_zero:
        outcome.forget(run)
    try:
        score = steps(cfg, trainer, module, data, ensemble)
        write(run, score)
        return score
    except Pruned as pruned:
        write(run, pruned.score, status="pruned")
        return pruned.score
    except Interrupted:
        raise
    except Exception as error:
        write(run, None, f"{type(error).__name__}: {error}")
        refusal = too_large(error, cfg, trainer)
        if refusal is not None:
            raise refusal from error
        raise


def make(part: Any, **more: Any) -> Any:
    """Instantiate a part of the configuration.

    Raises:
        ArgumentError: An argument is not allowed; the sentence names its key as the user writes it.
    """
    try:
        return instantiate(part, _convert_="all", _execution_whitelist_=WHITELIST, **more)
    except ArgumentError as error:
        raise error.below(_written_as(part, _place(error), error.key())) from error


def _place(error: Exception) -> str:
    """Return the key of the innermost object that failed, from the notes Hydra adds to an error."""
    notes = [note.partition("full_key: ")[2] for note in getattr(error, "__notes__", ())]
    return next(filter(None, notes), "")


def _written_as(part: Any, place: str, argument: str) -> str:
    """Return the key under which the user writes an argument.

    `evaluation_size=64` is written at the root and reaches `datamodule` by an interpolation.
    """
    root, keys = part._get_root(), [*place.split("."), *argument.split(".")]
    for number in range(1, len(keys) + 1):
        parent = OmegaConf.select(root, ".".join(keys[: number - 1])) if number > 1 else root
        name = keys[number - 1]
        if (
            not OmegaConf.is_dict(parent)
            or name not in parent
            or not OmegaConf.is_interpolation(parent, name)
        ):
            continue
        origin = str(OmegaConf.to_container(parent, resolve=False)[name])  # type: ignore[index,call-overload]
        if re.fullmatch(r"\$\{[\w.]+\}", origin):
            return ".".join([origin[2:-1], *keys[number:]])
    return ".".join(keys)


def callbacks_of(cfg: DictConfig) -> dict[str, Any]:
    """Make the callbacks by name, `interrupt` last, after all others' part of a step.

    An experiment may set values of a callback that `callbacks=[...]` then left out: such an entry
    has no target.
    """
    names = sorted(
        (name for name in cfg.callbacks if "_target_" in cfg.callbacks[name]),
        key=lambda name: name == "interrupt",
    )
    return {
        name: make(cfg.callbacks[name])
        for name in names
        if name != "progress" or cfg.trainer.enable_progress_bar
    }


def prepare(cfg: DictConfig) -> None:
    """Set up precision, allocator and warnings of the process, and save the configuration.

    The configuration of a finished run is kept until this one is known to be valid.
    """
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    tune_malloc()
    torch.set_float32_matmul_precision("high")
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = best_precision(cfg.trainer.accelerator)
    if cfg.trainer.sync_batchnorm == "auto":
        cfg.trainer.sync_batchnorm = uses_cuda(cfg.trainer.accelerator)
    Path(cfg.paths.run).mkdir(parents=True, exist_ok=True)
    if not (Path(cfg.paths.run) / "config.yaml").is_file():
        save_config(cfg)


def _refuse_other_task(cfg: DictConfig, records: list[Record], module: Any, data: Any) -> None:
    """Refuse a checkpoint of other classes or channels; a frozen body may have other classes."""
    for key, path, record in records[:1]:
        body_alone = (
            key == "init_from"
            and record is not None
            and len(record["classes"]) != len(module.classes)
        )
        if not body_alone and ("fit" not in cfg.do or key == "ckpt_path"):
            check_same_task(record, module, data.channels, path)


def _note(cfg: DictConfig, callbacks: dict[str, Any], note: str | None) -> None:
    """Add to the title of the run and its page what readers must know before the scores."""
    if note:
        cfg.title = f"{cfg.title} ({note})"
        for callback in callbacks.values():
            if isinstance(callback, Report):
                callback.title = str(cfg.title)


def goes_on(cfg: DictConfig, trainer: Trainer, module: Any) -> bool:
    """Refuse a fit that cannot resume from its checkpoint, before an earlier run is changed.

    Returns:
        Whether the fit resumes with other settings, as the user asked for.
    """
    start = started_from(cfg)
    if start is None:
        return False
    checkpoint = checkpoints.read_checkpoint(start)
    checkpoints.check_fit(module, checkpoint, start)
    changed = refuse_changes(
        module.settings, checkpoint, start, cfg.changed_settings == "apply", trainer.max_epochs
    )
    module.earlier_settings = checkpoint["settings"] if changed else None
    return changed


def save_config(cfg: DictConfig) -> None:
    """Write the resolved configuration into the run folder, once for all ranks."""
    if rank() == 0:
        OmegaConf.save(cfg, Path(cfg.paths.run) / "config.yaml", resolve=True)


def plugins() -> list[Any]:
    """Return the plugins of the trainer.

    Under srun, Lightning must not requeue the job too: whoever submitted it does, once its
    last.ckpt is written.
    """
    return [SLURMEnvironment(auto_requeue=False)] if by_srun() else []
