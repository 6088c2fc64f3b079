"""Summary before training: data, network, schedule and the sampling of each epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.curriculum import Curriculum
from callbacks.curriculum_stage import StageConfig
from callbacks.encoder_freezing import EncoderFreezing, freezes_encoder
from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from datamodules.formats.gray_levels import format_window
from datamodules.manifest.manifest import is_multiclass, present_classes
from datamodules.sampling.config import EpochConfig
from engine.resume import find_resume_checkpoint
from engine.run_references import PreparedRun, find_start_checkpoint, resolve_checkpoint
from lightning_modules import checkpoint_io
from lightning_modules.base import SupervisedModule
from lightning_modules.configured_weights import find_requests, weight_keys
from lightning_modules.networks.encoder import count_parameters, has_adapters
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.normalize import SOURCE_SCRATCH
from lightning_modules.pretrained.resolver import describe_scratch
from lightning_modules.pretrained.sources import AUTO
from reporting.commands import relative_to_cwd
from reporting.data_page import short_description
from reporting.live_run import device_names, sampling_schedule


def get_curriculum(trainer: Trainer) -> Sequence[StageConfig]:
    """Return the stages of the curriculum, empty without one."""
    return next(
        (callback.stages for callback in trainer.callbacks if isinstance(callback, Curriculum)),  # type: ignore[attr-defined]
        (),
    )


def describe_network(asked: DictConfig, module: SupervisedModule) -> list[str]:
    """Describe the network by its names in conf."""
    part: Any = OmegaConf.to_container(asked, resolve=True)
    part = part if isinstance(part, dict) else {}
    encoder = part.get("encoder")
    names = [part.get("architecture"), encoder.get("name") if isinstance(encoder, dict) else None]
    words = [str(name) for name in names if name] or [type(module.net).__name__]
    lora = part.get("lora")
    probe = "linear probe" if isinstance(module.net, FrozenBackboneClassifier) else None
    return [*words, *([f"LoRA of rank {lora['rank']}"] if lora else [probe] if probe else [])]


def describe_encoder(trainer: Trainer, module: SupervisedModule) -> str:
    """Describe how the training of the encoder differs from that of other layers."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    freezing = [each for each in callbacks if isinstance(each, EncoderFreezing)]
    words = [
        "frozen for the whole fit"
        if each.epochs is None
        else f"frozen for {_count(each.epochs, 'epoch')}"
        for each in freezing
    ]
    if has_adapters(module.net):
        words.append("frozen but for its adapters (LoRA)")
    elif isinstance(module.net, FrozenBackboneClassifier):
        words.append("frozen, only the head is trained")
    if module.encoder_lr_mult != 1.0:
        words.append(f"learning rate x {module.encoder_lr_mult:g}")
    if module.layer_decay != 1.0:
        words.append(f"layer decay {module.layer_decay:g}")
    return ", ".join(words)


def describe_start(cfg: DictConfig, module: SupervisedModule) -> str:
    """Describe the initial weights: a checkpoint, pretrained weights or random ones."""
    if find_resume_checkpoint(cfg) or cfg.ckpt_path:
        return f"continues from {cfg.ckpt_path or 'its last.ckpt'}"
    if cfg.init_from:
        return f"from {cfg.init_from}"
    pretrained = getattr(module.net, "pretrained", None)
    if pretrained is not None:
        return f"from {pretrained}"
    named = dict(weight_keys(cfg))
    if AUTO in named.values():
        request = next(each for each in find_requests(cfg) if each.value == AUTO)
        return f"from scratch, because {describe_scratch(request)}"
    return "from " + (", ".join(named.values()) or "scratch")


def describe_training(
    cfg: DictConfig, trainer: Trainer, module: SupervisedModule
) -> dict[str, str]:
    """Describe network, encoder and initial weights for the page, without paths of this machine.

    Weights that `pretrained_weights` of the report lists, or another run gave, are left out.
    """
    found = {
        "network": ", ".join(describe_network(cfg.module.net, module)),
        "encoder": describe_encoder(trainer, module),
        "weights": "",
    }
    began = module.pretrained_weights or cfg.init_from or cfg.ckpt_path
    if "fit" in cfg.do and not began:
        auto = [f"{key}=auto" for key, value in weight_keys(cfg) if value == AUTO]
        found["weights"] = "from scratch" + "".join(
            f" ({word} found no weights on the machine of the fit)" for word in auto
        )
    return found


def describe_normalization(module: SupervisedModule, checkpoint: Path | None) -> str:
    """Describe mean and std of the pixels, and their source.

    Args:
        module: Module before the checkpoint is loaded.
        checkpoint: Checkpoint whose normalization is loaded before the first batch; None keeps the
            module's own.
    """
    stored = None if checkpoint is None else checkpoint_io.read_normalization(checkpoint)
    normalize = stored or module.normalize
    gamma = "" if normalize.gamma == 1 else f", gamma {normalize.gamma:g}"
    unstated = normalize.source == SOURCE_SCRATCH and getattr(module.net, "pretrained", None)
    why = ", because the file of weights states no mean and std" if unstated else ""
    return (
        f"mean {checkpoint_io.format_statistics(normalize.mean)}, std"
        f" {checkpoint_io.format_statistics(normalize.std)}{gamma} ({normalize.source}{why})"
    )


def describe_loss(module: SupervisedModule) -> str:
    """Describe the loss by its terms and their weights."""
    weights = getattr(module.loss, "weights", None)
    if not isinstance(weights, Mapping):
        return type(module.loss).__name__
    return " + ".join(f"{weight:g} {name}" for name, weight in weights.items() if weight)


def describe_optimizer(module: SupervisedModule, stages: Sequence[StageConfig] = ()) -> str:
    """Describe the optimizer and its schedule; for a curriculum the rate of each stage."""
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
    message = [
        f"{key.replace('_', ' ')} {value:g}"
        for key in ("lr", "weight_decay")
        if isinstance(value := numbers.get(key), int | float) and value
    ]
    schedule: Any = module.scheduler
    return ", ".join(
        [
            name,
            *message,
            *([getattr(schedule, "func", schedule).__name__.replace("_", " ")] if schedule else []),
        ]
    )


def print_summary(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    prepared: Sequence[PreparedRun] = (),
) -> None:
    """Print the summary once, on the first rank; without a fit only one line.

    Args:
        cfg: Configuration of the run.
        trainer: Trainer of the fit.
        module: Module, whose parameters are counted.
        data: Data module, whose table is counted; no image is read.
        prepared: Runs that were made for this one.
    """
    if not trainer.is_global_zero:
        return
    console = Console(highlight=False)
    place = str(relative_to_cwd(Path(cfg.paths.run)))
    if "fit" not in cfg.do:
        weights = cfg.ckpt_path or cfg.init_from
        message = (
            f"{' and '.join(cfg.do)} of {weights}, on {_describe_machine(trainer)};"
            f" {', '.join([_format_size(data), *_format_window(data)])};"
            f" normalization: {_format_normalization(cfg, module)}"
        )
        console.print(f"{cfg.title}: {message}; written to {place}", soft_wrap=True, markup=False)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, message in run_summary(cfg, trainer, module, data, prepared).items():
        grid.add_row(name, escape(message))
    console.print(f"[bold]what this run does:[/bold] {escape(str(cfg.title))}", soft_wrap=True)
    console.print(grid)
    console.print(f"[dim]written to[/dim]  {escape(place)}\n", soft_wrap=True)


def run_summary(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    prepared: Sequence[PreparedRun] = (),
) -> dict[str, str]:
    """Return the heading and text of each line; for the arguments see `print_summary`."""
    stretches = sampling_schedule(data, trainer)
    found = short_description(data) | split_counts(data)
    if len(stretches) == 1:  # several are printed in a table of their own
        found["an epoch"] = describe_epoch(data, stretches[0][1], trainer)
    sizes = count_parameters(module.net, freezes_encoder(trainer.callbacks))  # type: ignore[attr-defined]
    if prepared:
        first = [
            f"{run.experiment} in {run.seconds:.0f} s ({relative_to_cwd(run.folder)})"
            for run in prepared
        ]
        found = {"made first": ", ".join(first)} | found
    if window := _format_window(data):
        found["gray values"] = window[0]
    encoder = describe_encoder(trainer, module)
    return found | {
        "network": ", ".join(
            [*describe_network(cfg.module.net, module), describe_start(cfg, module)]
        ),
        "parameters": (
            f"{sizes[0]:,} trained" + (f" of {sizes[1]:,}" if sizes[0] < sizes[1] else "")
        ),
        "normalization": _format_normalization(cfg, module),
        "loss": describe_loss(module),
        "optimizer": describe_optimizer(module, get_curriculum(trainer)),
        **({"encoder": encoder} if encoder else {}),
        "machine": _describe_machine(trainer),
        "length": training_length(cfg, trainer),
    }


def _format_size(data: ManifestDataModule) -> str:
    """Describe the image size of the test, and that of the training if it differs."""
    size, trained = data.current_image_size(), data.trained_size
    return f"images of {size} px" + (
        f", trained on {trained} px" if trained is not None and trained != size else ""
    )


def _format_window(data: ManifestDataModule) -> list[str]:
    """Describe the window of images of more than 8 bits; empty if there are none."""
    window = data.display_window() if data.cache.deep.any() else None
    if window is None:
        return []
    where = "in images of more than 8 bits"
    if isinstance(window[0], tuple):
        return [f"{format_window(window)} of the channels become black and white {where}"]
    return [f"{window[0]:g} becomes black and {window[1]:g} white {where}"]


def _format_normalization(cfg: DictConfig, module: SupervisedModule) -> str:
    """Describe the normalization at the first batch: a checkpoint's, else the module's own.

    A checkpoint to resume or test takes precedence over init_from.
    """
    try:
        return describe_normalization(
            module, find_start_checkpoint(cfg) or resolve_checkpoint(cfg, "init_from")
        )
    except UserError:  # the following steps refuse it and write outcome.json
        return "that of a checkpoint that cannot be read"


def split_counts(data: ManifestDataModule) -> dict[str, str]:
    """Count each split's images, known patients and, unless classes are exclusive, positives."""
    rows, positive = data.table.rows, present_classes(data.table, data.cache).max(axis=1)
    found = {}
    for split in (name for name in ("train", "val", "test") if (rows["split"] == name).any()):
        there = (rows["split"] == split).to_numpy()
        parts = [_count(there.sum(), "image")]
        parts += (
            [_count(rows["group"][there].nunique(), "patient")]
            if data.table.group_is == "patient"
            else []
        )
        parts += (
            [] if is_multiclass(data.table) else [f"{np.count_nonzero(positive[there]):,} positive"]
        )
        found[split] = ", ".join(parts)
    return found


def describe_epoch(data: ManifestDataModule, wanted: EpochConfig, trainer: Trainer) -> str:
    """Describe the sampling of one epoch: steps, images and, if mixed, positive fraction."""
    pool, ranks = data.pool, trainer.world_size
    if not np.isfinite(pool.sampling_fractions(wanted)).all():
        return "nothing that can be sampled"  # the fit refuses it and names the key
    steps = pool.batches(wanted, ranks)
    limit = trainer.limit_train_batches
    steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    images = steps * wanted.batch_size * ranks
    if not images:
        return "no step"
    often = pool.sampling_fractions(wanted) * images
    most = int(np.ceil(often.max() - 1e-6))
    each = f"{_count(wanted.batch_size, 'image')} of {wanted.image_size} px" + (
        f" on each of {ranks} devices" if ranks > 1 else ""
    )
    parts = [f"{_count(steps, 'step')} of {each}: {_count(images, 'image')}"]
    parts += (
        [f"{often[pool.positive].sum() / images:.3f} positive"]
        if 0 < pool.positive.sum() < len(pool.positive)
        else []
    )
    gathered = trainer.accumulate_grad_batches
    parts += [f"gradients of {gathered} steps together"] if gathered > 1 else []
    parts += (
        [f"{round(np.minimum(often, 1).sum()):,} different, one at most {most} times"]
        if most > 1
        else []
    )
    parts += (
        [f"drawn from {len(pool.rows):,}"]
        if len(pool.rows) < (data.table.rows["split"] == "train").sum()
        else []
    )
    return ", ".join(parts)


def training_length(cfg: DictConfig, trainer: Trainer) -> str:
    """Describe the number of epochs, other conditions that end the fit, and the monitored score."""
    limits = {"steps": trainer.max_steps, "of time": cfg.trainer.max_time}
    ends = [
        f"at most {number} {name}" for name, number in limits.items() if number not in (-1, None)
    ]
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    stops = [
        f"patience {callback.patience}"
        for callback in callbacks
        if isinstance(callback, EarlyStopping)
    ]
    best = f"best by {cfg.monitor.name} ({cfg.monitor.mode})"
    epochs, most = (
        trainer.max_epochs or -1,
        "at most " * any(stage.patience for stage in get_curriculum(trainer)),
    )
    return ", ".join(
        [
            most + _count(epochs, "epoch") if epochs > 0 else "epochs without end",
            *ends,
            best,
            *stops,
        ]
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _describe_machine(trainer: Trainer) -> str:
    found = [
        f"{number} x {name}" if number > 1 else name
        for name, number in device_names(trainer).items()
    ]
    return ", ".join(
        [
            *found,
            *([f"{trainer.world_size} processes"] if trainer.world_size > 1 else []),
            str(trainer.precision),
        ]
    )
