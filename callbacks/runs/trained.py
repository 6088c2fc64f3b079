"""Describes what is trained: network, initial weights, normalization, loss, optimizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from callbacks.curriculum.curriculum import Curriculum
from callbacks.curriculum.stage import StageConfig
from callbacks.runs.resume import find_resume_checkpoint
from lightning_modules import checkpoints
from lightning_modules.supervised import SupervisedModule


def get_curriculum(trainer: Trainer) -> Sequence[StageConfig]:
    """Return the stages of the curriculum, empty without one."""
    return next(
        (callback.stages for callback in trainer.callbacks if isinstance(callback, Curriculum)),  # type: ignore[attr-defined]
        (),
    )


def describe_network(asked: DictConfig, module: SupervisedModule) -> list[str]:
    """Describe the network by its names in conf."""
    known: dict[str, Any] = {}
    part: Any = OmegaConf.to_container(asked, resolve=True)
    lora = part.get("lora") if isinstance(part, dict) else None
    adapted = isinstance(part, dict) and "lora" in part
    while isinstance(part, Mapping):
        known = {
            **{str(key): value for key, value in part.items() if isinstance(value, str)},
            **known,
        }
        part = part.get("net")
    words = [known[key] for key in ("architecture", "encoder_name") if key in known] or [
        type(module.net).__name__
    ]
    words += ([f"LoRA of rank {lora['rank']}"] if lora else ["linear probe"]) if adapted else []
    return words


def describe_start(cfg: DictConfig) -> str:
    """Describe what the weights start from: a checkpoint, pretrained weights or nothing."""
    if find_resume_checkpoint(cfg) or cfg.ckpt_path:
        return f"goes on from {cfg.ckpt_path or 'its last.ckpt'}"
    part: Any = cfg.module.net
    named = [part.get("encoder_weights") or part.get("weights")]
    while OmegaConf.is_dict(part.get("net")):
        part = part.net
        named.append(part.get("encoder_weights") or part.get("weights"))
    weights = cfg.init_from or next(filter(None, named), None)
    return f"from {weights}" if weights else "from scratch"


def describe_normalization(module: SupervisedModule, checkpoint: Path | None) -> str:
    """Describe mean and std of the pixels, and where they come from.

    Args:
        module: Not loaded yet.
        checkpoint: Its weights and normalization are loaded before the first batch; None keeps the
            module's own.
    """
    stored = None if checkpoint is None else checkpoints.stored_normalization(checkpoint)
    normalize = stored or module.normalize
    gamma = "" if normalize.gamma == 1 else f", gamma {normalize.gamma:g}"
    return (
        f"mean {checkpoints.stored_numbers(normalize.mean)}, std"
        f" {checkpoints.stored_numbers(normalize.std)}{gamma} ({normalize.source})"
    )


def describe_loss(module: SupervisedModule) -> str:
    """Describe the loss by its terms and their weights."""
    weights = getattr(module.loss, "weights", None)
    if not isinstance(weights, Mapping):
        return type(module.loss).__name__
    return " + ".join(f"{weight:g} {name}" for name, weight in weights.items() if weight)


def describe_optimizer(module: SupervisedModule, stages: Sequence[StageConfig] = ()) -> str:
    """Describe the optimizer and its schedule; of a curriculum the rate of each stage."""
    asked: Any = module.optimizer
    name, numbers = (
        getattr(asked, "func", asked).__name__,
        {key: value for key, value in getattr(asked, "keywords", {}).items()},
    )
    rates = [numbers.get("lr") if stage.lr is None else stage.lr for stage in stages]
    if any(stage.lr is not None or stage.scheduler is not None for stage in stages):
        return (
            f"{name}, lr {' then '.join(f'{rate:g}' for rate in rates if rate is not None)}, a"
            " schedule for each stage"
        )
    said = [
        f"{key.replace('_', ' ')} {value:g}"
        for key in ("lr", "weight_decay")
        if isinstance(value := numbers.get(key), int | float) and value
    ]
    schedule: Any = module.scheduler
    return ", ".join(
        [
            name,
            *said,
            *([getattr(schedule, "func", schedule).__name__.replace("_", " ")] if schedule else []),
        ]
    )
