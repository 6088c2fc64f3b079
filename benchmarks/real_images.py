"""Pretrained weights on real images: variants of one network at equal training time.

python benchmarks/real_images.py --task mri|curve|radiographs|lungs --root DIR [--seeds 0 1 2]
[--seconds S] [--variants ...] [--out FILE]

DIR is the folder of the task's images: a COCO export of brain-tumor slices (mri, curve), chest
radiographs in the Kaggle layout (radiographs), or images x.jpg beside masks x@.png (lungs).

The speed of each variant is measured once over a few steps; the number of steps, and with it the
schedule, follows from it, so that every training takes about `--seconds` on one core. The network
at the end of the schedule is evaluated: the decision rule is searched on val, then test is read
once. Every finished run appends one JSON line to the file, with the pixels (or the logit) of every
image at the rule, so that `real_images_tables.py` can compute intervals; a run that has a line is
skipped. Seeds vary initialization, order and augmentation; the split is always the same.

What may be claimed was decided before the runs. mri: fine-tuned minus scratch is at least .05 val
Dice in the mean of three seeds. radiographs: a variant with ImageNet weights is better than
scratch, and LoRA of rank 16 is better than the probe, if the paired interval of the out-of-fold AUC
excludes 0; F1 and accuracy are reported beside it. In all other cases the text says
that the interval does not show a difference.

`--look LR ...` trains seed 0 with each learning rate and evaluates only val, to choose one.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback
from parts import Parts
from real_lines import compact, finished, write_line

from datamodules.manifest.splitting import stratified_folds
from engine.evaluation_precision import set_evaluation_precision

RESULTS = Path(__file__).parent / "results"
COMMON = (
    "datamodule.seed=0",
    "datamodule.num_workers=0",
    "module/scheduler=warmup_cosine",
    "logger={}",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
)
MRI = (
    "experiment=unetpp_brain_tumor",
    "module/net/encoder=lite0",
    "image_size=256",
    "evaluation_size=256",
    "datamodule.split=group",
    "datamodule.near_duplicates=join",
    "datamodule.cleaned_dir=null",
    # 115 test, 98 val and 367 train images; at least 20 groups in test and in val for intervals
    "folds=5",
    "fold=0",
    "datamodule.fold_pool=train",
    "datamodule.batch_size=8",
    "module.measurements.surface_distance=null",
    "callbacks=[threshold_search/segmentation]",
    "trainer.precision=bf16-mixed",
)
LUNGS = (
    "experiment=segmentation",
    # by value: this experiment sets an encoder from scratch, which wins over a chosen group
    "module.net.encoder.name=tf_efficientnet_lite0",
    "module.net.encoder.weights=imagenet",
    "image_size=256",
    "evaluation_size=256",
    "module.exclusive=false",
    "module.classes=[lung]",
    "module.net.classes=1",
    "module.net.in_channels=1",
    # 40 test, 32 val and 128 train images
    "datamodule.split=group",
    "folds=5",
    "fold=0",
    "datamodule.fold_pool=train",
    "module.measurements.surface_distance=null",
    "callbacks=[threshold_search/segmentation]",
    "trainer.precision=bf16-mixed",
)
RADIOGRAPHS = (
    "experiment=lora_pneumonia",
    "image_size=160",
    "datamodule.cache_size=160",
    "datamodule.batch_size=16",
    "datamodule.augmentation.transforms.crop.scale=[0.5,1.0]",
    "callbacks=[threshold_search/classification]",
)
SEGMENTERS = {
    "scratch": ("module.net.encoder.weights=null",),
    "fine-tuned": (),
    "lora": ("module.net.lora={rank: 8, alpha: 16, dropout: 0.0}",),
    "frozen": (),
}
CLASSIFIERS = {
    "scratch": (
        "module/net=classifier",
        "module/net/encoder=lite0",
        "module.net.encoder.weights=null",
    ),
    "probe": ("module/net/encoder=lite0", "module.net.lora=null"),
    "lora4": ("module/net/encoder=lite0", "module.net.lora.rank=4", "module.net.lora.alpha=8"),
    "lora16": ("module/net/encoder=lite0", "module.net.lora.rank=16", "module.net.lora.alpha=32"),
    "full": ("module/net=classifier", "module/net/encoder=lite0"),
}
FOLDS = 3  # of the radiographs: every image is test once
# Chosen on val of seed 0 with --look, at half of the budget for mri; lungs takes those of mri, and
# lora and frozen take that of fine-tuned.
RATES: dict[str, dict[str, float]] = {
    "mri": dict.fromkeys(SEGMENTERS, 3e-3),
    "lungs": dict.fromkeys(SEGMENTERS, 3e-3),
    "radiographs": {"scratch": 1e-3, "probe": 1e-2, "lora4": 1e-3, "lora16": 1e-3, "full": 3e-4},
}
TASKS = {
    "mri": (MRI, SEGMENTERS),
    "curve": (MRI, {name: SEGMENTERS[name] for name in ("scratch", "fine-tuned")}),
    "lungs": (LUNGS, SEGMENTERS),
    "radiographs": (RADIOGRAPHS, CLASSIFIERS),
}
FRACTIONS = (0.1, 0.25, 0.5)  # of the training groups, for curve; all of them is task mri


class FrozenStatistics(Callback):
    """Keep the BatchNorm statistics of a frozen encoder; with `whole` nothing in it is random."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the mode after Lightning has set that of the network."""
        encoder = pl_module.net.encoder
        for layer in encoder.modules():
            if self.whole or isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()


class Clock(Callback):
    """Seconds between the start of the first training step and the end of the last."""

    seconds = cpu_seconds = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, *step: Any) -> None:
        """Read the clock."""
        self.seconds = time.perf_counter() - self.start[0]
        self.cpu_seconds = time.process_time() - self.start[1]


def build(
    task: str, variant: str, root: str, folder: str, seed: int, lr: float, *more: str
) -> tuple[Parts, list[Callback]]:
    """Compose one variant, and the callbacks that it needs besides those of its experiment."""
    words, variants = TASKS[task]
    parts = Parts(
        folder,
        *words,
        *variants[variant],
        *COMMON,
        f"datamodule.root={root}",
        f"seed={seed}",
        f"module.optimizer.lr={lr}",
        *more,
    )
    parts.data.seed = seed  # after the split is made: order and augmentation
    extra: list[Callback] = []
    if variant == "frozen":
        parts.module.net.encoder.requires_grad_(False)
        extra = [FrozenStatistics(whole=True)]
    elif variant == "lora":
        extra = [FrozenStatistics(whole=False)]
    return parts, extra


def set_fold(parts: Parts, fold: int) -> None:
    """Make one third of the patients test, and a fifth of the others val; the seed is fixed."""
    rows = parts.data.table.rows
    outer = stratified_folds(rows, FOLDS, 0)
    split = np.where(outer == fold, "test", "train").astype(object)
    inner = stratified_folds(rows[outer != fold], 5, 0)
    split[np.flatnonzero(outer != fold)[inner == 0]] = "val"
    rows["split"] = split


def training_rows(parts: Parts, fraction: float) -> np.ndarray:
    """Return the training rows of a fraction of the groups; smaller fractions are subsets."""
    rows = parts.data.table.rows
    train = rows["split"] == "train"
    groups = np.random.default_rng(0).permutation(sorted(rows["group"][train].unique()))
    kept = groups[: max(1, round(fraction * len(groups)))]
    return np.flatnonzero(train & rows["group"].isin(kept))


def seconds_per_step(parts: Parts, extra: list[Callback], steps: int = 6) -> float:
    """Measure a training step with its loading and augmentation; the first two do not count.

    Seconds of the processor count, and of those the fastest step, because other processes of the
    machine slow single steps down.
    """
    module, batches = parts.module.train(), iter(parts.data.train_dataloader())
    for callback in extra:
        if isinstance(callback, FrozenStatistics):
            callback.on_train_epoch_start(None, module)
    bf16 = str(parts.cfg.trainer.precision) == "bf16-mixed"
    optimizer = module.optimizer([p for p in module.parameters() if p.requires_grad])
    spent = []
    for _ in range(steps + 2):
        start = time.process_time()
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = module.loss(module(batch["image"]), batch[module.target]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent.append(time.process_time() - start)
    return min(spent[2:])


def number_of_steps(args: argparse.Namespace, task: str, variant: str, seconds: float) -> int:
    """Return the steps that take the budget, from a speed that is measured once a variant."""
    key = {"kind": "speed", "task": task, "variant": variant}
    known = finished(args.out, key)
    if known is None:
        with tempfile.TemporaryDirectory() as folder:
            parts, extra = build(task, variant, args.root, folder, 0, 1e-3, *args.words)
            known = key | {"seconds_per_step": seconds_per_step(parts, extra)}
        write_line(args.out, known)
    return max(1, round(seconds / known["seconds_per_step"]))


def run(args: argparse.Namespace, key: dict[str, Any], lr: float, steps: int) -> dict[str, Any]:
    """Train and evaluate one run; a look evaluates val only."""
    look = key["kind"] == "look"
    with tempfile.TemporaryDirectory() as folder:
        parts, extra = build(
            key["task"],
            key["variant"],
            args.root,
            folder,
            key["seed"],
            lr,
            f"datamodule.batches_per_epoch={steps}",
            *args.words,
        )
        if key["task"] == "radiographs":
            set_fold(parts, key["fold"])
        if key["fraction"] < 1:
            parts.data.pool = parts.data.pool.restrict(training_rows(parts, key["fraction"]))
        clock = Clock()
        trainer, _ = parts.trainer()
        trainer.callbacks.extend([clock, *extra])
        trainer.fit(parts.module, datamodule=parts.data)
        set_evaluation_precision(trainer, parts.module, "32-true")
        trainer.limit_val_batches = 1.0
        trainer.validate(parts.module, datamodule=parts.data, verbose=False)
        if not look:
            trainer.test(parts.module, datamodule=parts.data, verbose=False)
    evidence = parts.module.evidence
    found = key | {
        "lr": lr,
        "steps": steps,
        "images": steps * parts.data.batch_size,
        "train_images": len(parts.data.pool.rows),
        "train_seconds": round(clock.seconds, 1),
        "train_cpu_seconds": round(clock.cpu_seconds, 1),
        "precision": str(parts.cfg.trainer.precision),
        "trained_parameters": sum(p.numel() for p in parts.module.parameters() if p.requires_grad),
    }
    splits = ("val",) if look else ("val", "test")
    found["scores"] = {split: scores(evidence[split]) for split in splits}
    return found if look else found | {split: compact(evidence[split]) for split in splits}


def scores(evidence: Any) -> dict[str, float]:
    """Return the main scores of one evaluation, rounded."""
    from evaluation.bootstrap import bootstrap_scores

    names = [score.name for score in evidence.metrics]
    values = bootstrap_scores(evidence, None, None)[:, 0]
    return {
        name: round(float(value), 4)
        for name, value in zip(names, values, strict=True)
        if name in evidence.headline_metrics
    }


def keys(args: argparse.Namespace) -> list[dict[str, Any]]:
    """List the runs, all variants of one seed before the next seed."""
    folds = range(FOLDS) if args.task == "radiographs" else [0]
    fractions = FRACTIONS if args.task == "curve" else [1.0]
    return [
        {
            "kind": "run",
            "task": args.task,
            "variant": variant,
            "seed": seed,
            "fold": fold,
            "fraction": fraction,
            "budget_seconds": args.seconds,
        }
        for seed in args.seeds
        for fold in folds
        for fraction in fractions
        for variant in args.variants or TASKS[args.task][1]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--variants", nargs="+")
    parser.add_argument("--look", type=float, nargs="+", help="learning rates to try on val")
    parser.add_argument("--out", type=Path)
    parser.add_argument("words", nargs="*", help="further words for run.py")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    args.out = args.out or RESULTS / f"{args.task}.jsonl"
    kind = "mri" if args.task == "curve" else args.task
    steps_of = {
        variant: number_of_steps(args, kind, variant, args.seconds)
        for variant in args.variants or TASKS[args.task][1]
    }
    for key in keys(args):
        steps = steps_of[key["variant"]]
        if args.look:
            if key["seed"] or key["fold"] or key["fraction"] < 1:
                continue
            rates = args.look
            key = key | {"kind": "look"}
        else:
            rates = [RATES[kind][key["variant"]]]
        for lr in rates:
            if finished(args.out, key | ({"lr": lr} if args.look else {})) is None:
                found = run(args, key, lr, steps)
                write_line(args.out, found)
                short = {
                    name: found[name]
                    for name in (
                        "variant",
                        "seed",
                        "fold",
                        "fraction",
                        "lr",
                        "steps",
                        "train_seconds",
                        "scores",
                    )
                }
                print(json.dumps(short), flush=True)


if __name__ == "__main__":
    main()
