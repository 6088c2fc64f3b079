"""One-sentence explanations of errors of the system and of libraries that ended a run."""

import re
import traceback

import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig

from datamodules.base import ServingDataModule
from datamodules.errors import UserError
from datamodules.file_errors import FULL_DISK, error_number, file_error
from datamodules.formats.file_content import shorten
from datamodules.loading.shared_memory import shared_memory_error
from lightning_modules.base import SupervisedModule
from lightning_modules.networks.input_size import REFUSALS

RESTORING = ("checkpoint_connector.py",)  # file of Lightning that restores a checkpoint's state
# of messages of gloo and NCCL if another process no longer answers
LOST = re.compile(
    r"connection (closed|reset) by peer|connection refused|socket (closed|timeout)|broken pipe"
    r"|timed out|timeout|remote process exited|ncclRemoteError|no response",
    re.IGNORECASE,
)
_DIST_ERROR = getattr(torch.distributed, "DistError", ())  # some builds of PyTorch have none
CPU_MESSAGES = "DefaultCPUAllocator: "  # part of PyTorch's message if memory on a CPU runs out


def oom_error(error: Exception, cfg: DictConfig, trainer: Trainer) -> UserError | None:
    """Return a UserError that suggests a batch size for an out-of-memory error, else None.

    Args:
        error: The error that ended the run.
        cfg: Configuration of the run.
        trainer: Trainer in the state at the error.
    """
    if not (
        isinstance(error, torch.OutOfMemoryError)
        or (isinstance(error, RuntimeError) and CPU_MESSAGES in str(error))
    ):
        return None
    training = trainer.state.fn == TrainerFn.FITTING and not trainer.validating
    name, own = (
        ("datamodule.batch_size", None)
        if training
        else ("datamodule.eval_batch_size", cfg.datamodule.get("eval_batch_size"))
    )
    plan = getattr(trainer.datamodule, "epoch_config", None) if training else None  # type: ignore[attr-defined]
    size = plan(trainer.current_epoch).batch_size if plan else own or cfg.datamodule.batch_size
    where = (
        "a training step"
        if training
        else f"an evaluation step of {trainer.state.fn.value if trainer.state.fn else 'the run'}"
    )
    message = f"out of memory in {where} of {size} images"
    if size == 1:
        return UserError(
            f"{message}, and one is the minimum; set a smaller image_size, a smaller network, or a"
            " device with more memory"
        )
    more = (
        f" and trainer.accumulate_grad_batches={cfg.trainer.accumulate_grad_batches * 2}"
        if training
        else ""
    )
    where = " in that stage" if training and size != cfg.datamodule.batch_size else ""
    return UserError(
        f"{message}; try {name if not where else 'batch_size'}={max(1, size // 2)}{where}{more}"
    )


def disk_error(error: Exception, cfg: DictConfig, trainer: Trainer) -> UserError | None:
    """Return a UserError for a full disk, or for a file or folder that cannot be used, else None.

    Args:
        error: The error that ended the run.
        cfg: Configuration of the run.
        trainer: Trainer in the state at the error.
    """
    number, fix = error_number(error)[0], None
    if number is None:
        return None
    if number in FULL_DISK and trainer.state.fn == TrainerFn.PREDICTING:
        fix = (
            "what was predicted stays; free some, and the same command with"
            f" hydra.run.dir={cfg.paths.run} resume=auto continues"
        )
    return file_error(error, cfg.paths.run, fix)


def input_error(error: Exception, trainer: Trainer, module: SupervisedModule) -> UserError | None:
    """Return a UserError if the network cannot process images of this size, else None.

    Args:
        error: The error that ended the run.
        trainer: Trainer in the state at the error.
        module: Module in the mode at the error.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(error, REFUSALS) or not isinstance(data, ServingDataModule):
        return None
    training = trainer.state.fn == TrainerFn.FITTING and module.net.training
    batch_size = data.epoch_config(trainer.current_epoch).batch_size if training else 1
    try:
        module.check_input(data.current_image_size(), batch_size)
    except UserError as refusal:
        return refusal if _is_same_error(refusal.__cause__, error) else None
    except Exception:  # not every network can be copied for this check
        return None
    return None


def _is_same_error(one: BaseException | None, other: Exception) -> bool:
    """Return True if two errors are of one kind; sizes in their messages may differ."""
    return type(one) is type(other) and re.sub(r"\d+", "", str(one)) == re.sub(
        r"\d+", "", str(other)
    )


def restore_error(error: Exception, trainer: Trainer) -> UserError | None:
    """Return a UserError if the state of a checkpoint cannot be restored, else None.

    Args:
        error: The error that ended the run.
        trainer: Trainer in the state at the error.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not any(frame.filename.endswith(RESTORING) for frame in frames):
        return None
    path = trainer.ckpt_path
    return UserError(
        f"the training cannot continue from {path}, because its state does not fit this run"
        f" ({type(error).__name__}: {shorten(str(error))}); start from its weights with"
        f" init_from={path}"
    )


def lost_process_error(error: Exception, cfg: DictConfig, trainer: Trainer) -> UserError | None:
    """Return a UserError if another process of the run no longer answers, else None.

    Args:
        error: The error that ended the run.
        cfg: Configuration of the run.
        trainer: Trainer in the state at the error.
    """
    text = str(error)
    distributed = isinstance(error, _DIST_ERROR) or "gloo" in text.lower()
    if not (isinstance(error, RuntimeError) and distributed and LOST.search(text)):
        return None
    fit = trainer.state.fn == TrainerFn.FITTING
    fix = (
        f"the same command with hydra.run.dir={cfg.paths.run} resume=auto continues after the last"
        " saved epoch"
        if fit
        else "start the same command again"
    )
    return UserError(
        "another process of this run has ended, or no longer answers"
        f" ({shorten(text.splitlines()[0])}); its own message says why (if it has none, the system"
        f" may have ended it, such as for lack of memory); then {fix}"
    )


def explain_error(
    error: Exception, cfg: DictConfig, trainer: Trainer, module: SupervisedModule
) -> UserError | None:
    """Return a UserError with the fix for an error of a library; None if there is no explanation.

    Args:
        error: The error that ended the run.
        cfg: Configuration of the run.
        trainer: Trainer in the state at the error.
        module: Module in the state at the error.
    """
    if isinstance(error, UserError):
        return None
    return (
        shared_memory_error(error)
        or disk_error(error, cfg, trainer)
        or oom_error(error, cfg, trainer)
        or input_error(error, trainer, module)
        or restore_error(error, trainer)
        or lost_process_error(error, cfg, trainer)
    )
