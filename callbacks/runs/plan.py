"""Prints what a run is about to do: data, sampling, network, optimizer, length, folder."""

from pathlib import Path

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.planned import sampling_schedule
from callbacks.report.devices import device_names
from callbacks.runs.named_checkpoints import find_start_checkpoint, resolve_checkpoint
from callbacks.runs.quoting import relative_to_cwd
from callbacks.runs.trained import (
    describe_loss,
    describe_network,
    describe_normalization,
    describe_optimizer,
    describe_start,
    get_curriculum,
)
from datamodules.base import ManifestDataModule
from datamodules.labels import is_multiclass, present_classes
from datamodules.plan import EpochConfig
from datamodules.refusal import UserError
from lightning_modules.supervised import SupervisedModule


def print_summary(
    cfg: DictConfig, trainer: Trainer, module: SupervisedModule, data: ManifestDataModule
) -> None:
    """Print the plan once, on the first rank; without a fit one line on what is evaluated.

    Args:
        cfg: Configuration of the run.
        trainer: Trainer of the fit.
        module: Its network is counted, not run.
        data: Its table is counted; no image is read.
    """
    if not trainer.is_global_zero:
        return
    console = Console(highlight=False)
    place = str(relative_to_cwd(Path(cfg.paths.run)))
    if "fit" not in cfg.do:
        weights = cfg.ckpt_path or cfg.init_from
        said = (
            f"{' and '.join(cfg.do)} of {weights}, on {_describe_machine(trainer)}; {_format_size(data)};"
            f" normalization {_format_normalization(cfg, module)}"
        )
        console.print(f"{cfg.title}: {said}; written to {place}", soft_wrap=True, markup=False)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, said in run_summary(cfg, trainer, module, data).items():
        grid.add_row(name, escape(said))
    console.print(f"[bold]what this run does:[/bold] {escape(str(cfg.title))}", soft_wrap=True)
    console.print(grid)
    console.print(f"[dim]written to[/dim]  {escape(place)}\n", soft_wrap=True)


def run_summary(
    cfg: DictConfig, trainer: Trainer, module: SupervisedModule, data: ManifestDataModule
) -> dict[str, str]:
    """Return the heading and text of each line; arguments as for `print_summary`."""
    stretches = sampling_schedule(data, trainer)
    found = split_counts(data)
    if len(stretches) == 1:  # several are told in a table of their own
        found["an epoch"] = describe_epoch(data, stretches[0][1], trainer)
    sizes = [
        sum(p.numel() for p in module.net.parameters() if p.requires_grad or every)
        for every in (False, True)
    ]
    return found | {
        "network": ", ".join([*describe_network(cfg.module.net, module), describe_start(cfg)]),
        "parameters": (
            f"{sizes[0]:,} trained" + (f" of {sizes[1]:,}" if sizes[0] < sizes[1] else "")
        ),
        "normalization": _format_normalization(cfg, module),
        "loss": describe_loss(module),
        "optimizer": describe_optimizer(module, get_curriculum(trainer)),
        "machine": _describe_machine(trainer),
        "length": training_length(cfg, trainer),
    }


def _format_size(data: ManifestDataModule) -> str:
    """Describe the image size of the test, and that of the training if it differs."""
    size, trained = data.trained_image_size(), data.trained_size
    return f"images of {size} px" + (
        f", trained on {trained} px" if trained is not None and trained != size else ""
    )


def _format_normalization(cfg: DictConfig, module: SupervisedModule) -> str:
    """Describe the normalization at the first batch: a checkpoint's, else the module's own.

    A checkpoint to resume or test takes precedence over init_from.
    """
    try:
        return describe_normalization(
            module, find_start_checkpoint(cfg) or resolve_checkpoint(cfg, "init_from")
        )
    except UserError:  # the steps refuse it in a moment, and leave outcome.json
        return "of a checkpoint that cannot be read"


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
    """Describe what one epoch samples: steps, images and, if mixed, the share of positives."""
    pool, ranks = data.pool, trainer.world_size
    if not np.isfinite(pool.shares(wanted)).all():
        return "nothing that can be drawn"  # the fit refuses it in a moment, and names the key
    steps = pool.batches(wanted, ranks)
    limit = trainer.limit_train_batches
    steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    images = steps * wanted.batch_size * ranks
    if not images:
        return "no step"
    often = pool.shares(wanted) * images
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
    """Describe the epochs, what else ends the fit, and how the best epoch is chosen."""
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
