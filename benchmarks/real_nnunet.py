"""nnU-Net v2 (2d) on the images and the split of the task mri, at equal training time.

python benchmarks/real_nnunet.py export --root DIR --folder F       # with this repository
python benchmarks/real_nnunet.py train --folder F [--seeds 0] [--seconds 100] [--out FILE]

`train` needs nnunetv2 and nothing of this repository, so it runs in an environment of its own. The
fingerprint, the plans, the network, the augmentation, the loss, SGD and the polynomial schedule are
nnU-Net's; only the batch size is set to 8, and the schedule ends with the budget. Predictions are
made without mirroring, and the mask is its argmax: nnU-Net searches no threshold.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path
from typing import Any

SIZE, BATCH, DATASET = 256, 8, "Dataset501_MRI"


def export(root: str, folder: Path) -> None:
    """Write the images at 256 px in nnU-Net's raw layout, with splits and groups beside them."""
    import cv2
    from pycocotools import mask as coco_mask
    from real_others import split_rows

    of = split_rows(root)
    raw = folder / "raw" / DATASET
    listed: dict[str, list[list[str]]] = {}
    for split, rows in of.items():
        ends = "Ts" if split == "test" else "Tr"
        for kind in ("images", "labels"):
            (raw / f"{kind}{ends}").mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(rows):
            case = f"{split}{number:04d}"
            image = cv2.imread(row["image"], cv2.IMREAD_GRAYSCALE)
            mask = coco_mask.decode(row["mask"][0])
            image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(raw / f"images{ends}" / f"{case}_0000.png"), image)
            cv2.imwrite(str(raw / f"labels{ends}" / f"{case}.png"), mask)
            listed.setdefault(split, []).append([case, row["id"], row["group"]])
    about = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": len(listed["train"]) + len(listed["val"]),
        "file_ending": ".png",
    }
    (raw / "dataset.json").write_text(json.dumps(about))
    (folder / "cases.json").write_text(json.dumps(listed))


def prepare(folder: Path, listed: dict[str, Any]) -> Path:
    """Plan and preprocess as nnU-Net does; return the folder of the preprocessed data set."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    done = folder / "preprocessed" / DATASET
    plans_file = done / "nnUNetPlans.json"
    if not plans_file.is_file():
        os.environ["nnUNet_n_proc_DA"] = "1"  # its planner refuses 0
        extract_fingerprints([501], num_processes=1)
        plan_experiments([501])
        plans = json.loads(plans_file.read_text())
        plans["configurations"]["2d"]["batch_size"] = BATCH
        plans_file.write_text(json.dumps(plans))
        preprocess([501], configurations=("2d",), num_processes=(1,))
        split = {name: [case for case, *_ in listed[name]] for name in ("train", "val")}
        (done / "splits_final.json").write_text(json.dumps([split]))
        os.environ["nnUNet_n_proc_DA"] = "0"
    return done


def make_trainer(done: Path, steps: int) -> Any:
    """Return nnU-Net's trainer, ready for its first step; an epoch is one step."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = nnUNetTrainer(
        plans=json.loads((done / "nnUNetPlans.json").read_text()) | {"continue_training": False},
        configuration="2d",
        fold=0,
        dataset_json=json.loads((done / "dataset.json").read_text()),
        device=torch.device("cpu"),
    )
    trainer.num_epochs = steps
    trainer.initialize()
    trainer.on_train_start()
    return trainer


def train(trainer: Any, steps: int) -> None:
    """Train for a number of steps with nnU-Net's own step and schedule."""
    trainer.network.train()
    for step in range(steps):
        trainer.lr_scheduler.step(step)
        trainer.train_step(next(trainer.dataloader_train))


def evaluate(trainer: Any, folder: Path, split: str, cases: list[list[str]]) -> dict[str, Any]:
    """Predict a split as nnU-Net does, without mirroring."""
    import torch
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False, verbose=False
    )
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        None,
    )
    reader, images = NaturalImage2DIO(), []
    ends = "Ts" if split == "test" else "Tr"
    for case, name, group in cases:
        raw = folder / "raw" / DATASET
        image, about = reader.read_images([str(raw / f"images{ends}" / f"{case}_0000.png")])
        truth = reader.read_seg(str(raw / f"labels{ends}" / f"{case}.png"))[0].squeeze() > 0
        mask = predictor.predict_single_npy_array(image, about).squeeze() > 0
        pixels = [(mask & truth), (mask & ~truth), (~mask & truth), (~mask & ~truth)]
        images.append([name, group, *(int(each.sum()) for each in pixels)])
    trainer.set_deep_supervision_enabled(True)
    return {
        "kind": "mask",
        "class": "tumor",
        "group_is": "image",
        "grid": str(SIZE),
        "rule": [0.5],
        "images": images,
    }


def mean_dice(images: list[list[Any]]) -> float:
    """Return the mean Dice of the images of a line; every image has a lesion."""
    each = [2 * tp / (2 * tp + fp + fn) for *_, tp, fp, fn, _ in images]
    return round(sum(each) / len(each), 4)


def run(args: argparse.Namespace) -> None:
    """Train each seed that has no line yet, and append its line."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    listed = json.loads((args.folder / "cases.json").read_text())
    done = prepare(args.folder, listed)
    lines = args.out.read_text().splitlines() if args.out.is_file() else []
    known = [json.loads(line) for line in lines]
    for seed in args.seeds:
        if any((x["variant"], x.get("seed")) == ("nnunet", seed) for x in known):
            continue
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        trial = make_trainer(done, 10)
        train(trial, 1)
        spent = []
        for _ in range(3):
            start = time.process_time()  # the fastest counts, as in real_images.py
            train(trial, 1)
            spent.append(time.process_time() - start)
        steps = max(1, round(args.seconds / min(spent)))
        trainer = make_trainer(done, steps)
        start, start_cpu = time.perf_counter(), time.process_time()
        train(trainer, steps)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        found = {"test": evaluate(trainer, args.folder, "test", listed["test"])}
        line = {
            "kind": "run",
            "task": "mri",
            "variant": "nnunet",
            "seed": seed,
            "fold": 0,
            "fraction": 1.0,
            "budget_seconds": args.seconds,
            "lr": trainer.initial_lr,
            "steps": steps,
            "images": steps * BATCH,
            "train_images": len(listed["train"]),
            "train_seconds": round(seconds, 1),
            "train_cpu_seconds": round(cpu, 1),
            "precision": "32-true",
            "trained_parameters": sum(p.numel() for p in trainer.network.parameters()),
            "scores": {name: {"dice": mean_dice(found[name]["images"])} for name in found},
        }
        print(json.dumps(line), flush=True)
        with args.out.open("a") as file:
            file.write(json.dumps(line | found) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["export", "train"])
    parser.add_argument("--root")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "others.jsonl"
    )
    args = parser.parse_args()
    for name, part in (("raw", "raw"), ("preprocessed", "preprocessed"), ("results", "trained")):
        os.environ[f"nnUNet_{name}"] = str(args.folder / part)
    os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}
    if args.do == "export":
        export(args.root, args.folder)
    else:
        run(args)


if __name__ == "__main__":
    main()
