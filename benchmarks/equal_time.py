"""Ten minutes of training from scratch on a real COCO export at 256 px: ours and a plain loop.

The recipe was chosen on valid alone; test is read once, at the end. Threshold from valid, mean Dice
of test.

python benchmarks/equal_time.py --root DIR --variant ours|plain|plain_bf16 [--seeds 0 1 2]
[--seconds 600] [--no-copies]

--no-copies makes a new split, with near duplicates on one side: public exports hold mirrored and
turned copies of one picture in train and in test, which reward memorization.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from parts import Parts
from plain_loop import PlainLoop, mean_dice

from datamodules.brain_tumor import BrainTumorDataModule
from lightning_modules import checkpoint_io
from reporting.run_folder import find_checkpoint

COMMON = (
    "experiment=unetpp_brain_tumor",
    "evaluation_size=256",
    "module.net.encoder.weights=null",
    "datamodule.batch_size=8",
    "datamodule.augmentation.transforms.elastic=null",
    "datamodule.augmentation.transforms.blur=null",
    "module.optimizer.lr=1e-3",
    "module/scheduler=warmup_cosine",
    "callbacks=[checkpoint,threshold_search/segmentation,resources,report]",
    "extra=ema",
    "callbacks.ema.decay=0.98",
)
SMALL_FIRST = (
    "image_size=128",
    "trainer.max_epochs=6",
)  # a step at 128 px costs a quarter: most is learned there
THEN_LARGE = ("image_size=256", "trainer.max_epochs=2", "datamodule.batches_per_epoch=66")


NO_COPIES = ("datamodule.split=group", "datamodule.near_duplicates=join")


def ours(root: str, seed: int, folder: Path, budget: float, *more: str) -> dict:
    """Train UNet++ r34: six epochs at 128 px, then 1,056 images at 256 px from those weights.

    A training that takes more than the budget is refused.
    """
    seconds = images = 0.0
    for stage, words in enumerate((SMALL_FIRST, THEN_LARGE)):
        parts = Parts(
            str(folder / f"stage{stage}"),
            *COMMON,
            *words,
            f"datamodule.root={root}",
            f"seed={seed}",
            *more,
        )
        if stage:
            checkpoint_io.load_weights(
                parts.module, find_checkpoint(str(folder / "stage0"), "best")
            )
        trainer, callbacks = parts.trainer()
        trainer.fit(parts.module, datamodule=parts.data)
        cost = callbacks["resources"].as_dict()
        seconds, images = seconds + cost["train_seconds"], images + cost["images_trained"]
    if seconds > budget:
        raise SystemExit(
            f"training took {seconds:.0f} s, more than the {budget:.0f} of the other variants: no"
            " comparison"
        )
    best = trainer.checkpoint_callback.best_model_path
    for evaluate in (trainer.validate, trainer.test):
        evaluate(
            parts.module, datamodule=parts.data, ckpt_path=best, weights_only=True, verbose=False
        )
    scores = json.loads((folder / "stage1/report.json").read_text())["scores"]
    dice = {split: classes["tumor"]["dice"] for split, classes in scores.items()}
    found = {
        f"{split}_dice": [d["value"], d["low"], d["high"], d["n"]] for split, d in dice.items()
    }
    return found | {"images": images, "train_seconds": seconds}


def plain(root: str, seed: int, seconds: float, bf16: bool, no_copies: bool) -> dict:
    """Train the recipe as a plain loop for the same time; its threshold is chosen on valid."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as cache:
        split = {"split": "group", "near_duplicates": "join", "seed": seed} if no_copies else {}
        rows = BrainTumorDataModule(root=root, cache_dir=cache, image_size=256, **split).table.rows
    of = {
        split: rows[rows["split"] == split].to_dict("records") for split in ("train", "val", "test")
    }
    loop = PlainLoop(of["train"], 256, 8, bf16=bf16)
    start, images = time.perf_counter(), 0
    for seen in loop.steps():
        images += seen
        if time.perf_counter() - start > seconds:
            break
    spent = time.perf_counter() - start
    on_val, on_test = (loop.probabilities(of[split], 256) for split in ("val", "test"))
    thresholds = np.linspace(0.3, 0.75, 46)
    best = max(thresholds, key=lambda t: mean_dice(*on_val, t))
    return {
        "val_dice": mean_dice(*on_val, best),
        "test_dice": mean_dice(*on_test, best),
        "images": images,
        "train_seconds": spent,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--variant", choices=["ours", "plain", "plain_bf16"], required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--no-copies", action="store_true")
    args = parser.parse_args()
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            if args.variant == "ours":
                found = ours(
                    args.root,
                    seed,
                    Path(folder),
                    args.seconds,
                    *(NO_COPIES if args.no_copies else ()),
                )
            else:
                found = plain(
                    args.root, seed, args.seconds, args.variant == "plain_bf16", args.no_copies
                )
        print(json.dumps({"variant": args.variant, "seed": seed} | found), flush=True)


if __name__ == "__main__":
    main()
