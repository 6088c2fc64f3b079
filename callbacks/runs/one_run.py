"""Builds one run from the configuration, checks it, and runs fit, test and predict."""

import logging
import warnings
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.fabric.plugins.environments import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf

from callbacks.dashboard.logger import close_loggers
from callbacks.interrupt import RunInterrupted
from callbacks.pruning import TrialPruned
from callbacks.report.report import ReportWriter
from callbacks.runs import outcome
from callbacks.runs.devices import check_devices, ddp_strategy, is_multi_process, uses_cuda
from callbacks.runs.launched import launched_by_srun, rank
from callbacks.runs.named_checkpoints import find_start_checkpoint, resolve_checkpoint
from callbacks.runs.out_of_memory import oom_error
from callbacks.runs.plan import print_summary
from callbacks.runs.resume import check_settings, resume_settings
from callbacks.runs.run_folder import folder_lock
from callbacks.runs.seen_images import (
    Record,
    check_test_images,
    earlier_records,
    image_size_is_given,
)
from callbacks.runs.steps import check_stages, run_stages
from callbacks.sweeps.ensembling import FoldEnsemble
from lightning_modules import checkpoints
from lightning_modules.make import instantiate_config
from lightning_modules.memory import tune_malloc
from lightning_modules.precision import best_precision
from lightning_modules.training_record import check_same_task

IGNORED_WARNINGS = (  # warnings of libraries that no user of ours can act on
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


def run_experiment(cfg: DictConfig, ensemble: FoldEnsemble | None = None) -> float | None:
    """Build the parts and run the steps; return the monitored score of a fit.

    Args:
        cfg: Configuration of the run.
        ensemble: Networks that are evaluated together, if `ckpt_path` or `init_from` names several.
    """
    if rank() != 0:
        return _run_experiment(cfg, ensemble)
    with folder_lock(Path(cfg.paths.run), outcome.task_overrides() or []):
        return _run_experiment(cfg, ensemble)


def _run_experiment(cfg: DictConfig, ensemble: FoldEnsemble | None) -> float | None:
    prepare_process(cfg)
    check_devices(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    callbacks = build_callbacks(cfg)  # they refuse what cannot be before any image is read
    check_stages(cfg, callbacks)
    loggers = [instantiate_config(part) for part in cfg.logger.values()]
    data = instantiate_config(cfg.datamodule)
    judged = resolve_checkpoint(cfg, "ckpt_path") or resolve_checkpoint(cfg, "init_from")
    if judged and "fit" not in cfg.do:
        data.size_is_given = image_size_is_given(data, judged)
        checkpoints.adopt_image_size(
            data, judged
        )  # no image is kept smaller than the network wants it
    data.prepare_data()  # the data is checked before a network is built
    records = earlier_records(cfg, ensemble)
    note = check_test_images(cfg, data, records)
    if "fit" in cfg.do:
        _ = data.pool  # and so is what is to be drawn from it
    module = instantiate_config(cfg.module)
    _check_same_task(cfg, records, module, data)
    if cfg.trainer.strategy == "auto" and is_multi_process(cfg):
        cfg.trainer.strategy = ddp_strategy(module)
    trainer = instantiate_config(
        cfg.trainer, callbacks=list(callbacks.values()), logger=loggers, plugins=trainer_plugins()
    )
    if "fit" in cfg.do:
        module.settings = resume_settings(cfg, trainer, data)
        module.earlier_records = [record for _, _, record in records if record is not None]
        if check_resume(cfg, trainer, module):
            note = ", ".join(filter(None, [note, "settings changed on the way"]))
    _add_to_title(cfg, callbacks, note)
    save_config(cfg)
    print_summary(cfg, trainer, module, data)
    code = 1
    try:
        score = _run_and_record(cfg, trainer, module, data, ensemble)
        code = 0 if score is None or isfinite(score) else 1
        return score
    finally:
        close_loggers(loggers, code, trainer)  # else the next fit would write into the same W&B run


def _run_and_record(
    cfg: DictConfig, trainer: Trainer, module: Any, data: Any, ensemble: FoldEnsemble | None
) -> float | None:
    """Run the steps and write how they ended to outcome.json.

    An interrupted run can be resumed and leaves none.
    """
    run = Path(cfg.paths.run)
    write = outcome.write_outcome if trainer.is_global_zero else lambda *about, **more: None
    if trainer.is_global_zero:
        outcome.clear_outcome(run)
    try:
        score = run_stages(cfg, trainer, module, data, ensemble)
        write(run, score)
        return score
    except TrialPruned as pruned:
        write(run, pruned.score, status="pruned")
        return pruned.score
    except RunInterrupted:
        raise
    except Exception as error:
        write(run, None, f"{type(error).__name__}: {error}")
        refusal = oom_error(error, cfg, trainer)
        if refusal is not None:
            raise refusal from error
        raise


def build_callbacks(cfg: DictConfig) -> dict[str, Any]:
    """Make the callbacks by name, `interrupt` last, after all others' part of a step.

    An experiment may set values of a callback that `callbacks=[...]` then left out: such an entry
    has no target.
    """
    names = sorted(
        (name for name in cfg.callbacks if "_target_" in cfg.callbacks[name]),
        key=lambda name: name == "interrupt",
    )
    return {
        name: instantiate_config(cfg.callbacks[name])
        for name in names
        if name != "progress" or cfg.trainer.enable_progress_bar
    }


def prepare_process(cfg: DictConfig) -> None:
    """Set up precision, allocator and warnings of the process, and save the configuration.

    The configuration of a finished run is kept until this one is known to be valid.
    """
    for message in IGNORED_WARNINGS:
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


def _check_same_task(cfg: DictConfig, records: list[Record], module: Any, data: Any) -> None:
    """Refuse a checkpoint of other classes or channels; a frozen body may have other classes."""
    for key, path, record in records[:1]:
        body_alone = (
            key == "init_from"
            and record is not None
            and len(record["classes"]) != len(module.classes)
        )
        if not body_alone and ("fit" not in cfg.do or key == "ckpt_path"):
            check_same_task(record, module, data.channels, path)


def _add_to_title(cfg: DictConfig, callbacks: dict[str, Any], note: str | None) -> None:
    """Add to the title of the run and its page what readers must know before the scores."""
    if note:
        cfg.title = f"{cfg.title} ({note})"
        for callback in callbacks.values():
            if isinstance(callback, ReportWriter):
                callback.title = str(cfg.title)


def check_resume(cfg: DictConfig, trainer: Trainer, module: Any) -> bool:
    """Refuse a fit that cannot resume from its checkpoint, before an earlier run is changed.

    Returns:
        Whether the fit resumes with other settings, as the user asked for.
    """
    start = find_start_checkpoint(cfg)
    if start is None:
        return False
    checkpoint = checkpoints.read_checkpoint(start)
    checkpoints.check_fit(module, checkpoint, start)
    changed = check_settings(
        module.settings, checkpoint, start, cfg.changed_settings == "apply", trainer.max_epochs
    )
    module.earlier_settings = checkpoint["settings"] if changed else None
    return changed


def save_config(cfg: DictConfig) -> None:
    """Write the resolved configuration into the run folder, once for all ranks."""
    if rank() == 0:
        OmegaConf.save(cfg, Path(cfg.paths.run) / "config.yaml", resolve=True)


def trainer_plugins() -> list[Any]:
    """Return the plugins of the trainer.

    Under srun, Lightning must not requeue the job too: whoever submitted it does, once its
    last.ckpt is written.
    """
    return [SLURMEnvironment(auto_requeue=False)] if launched_by_srun() else []
