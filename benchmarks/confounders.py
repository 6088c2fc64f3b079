"""Value of confounders in training: python benchmarks/confounders.py [--seeds 0 1 2].

Draws one set of pneumothorax phantoms twice, with and without tubes, skin folds, clothes and hair
over the lungs, everything else the same. One variant trains on the set with them, one on the set
without; val and test have them in both. Each run goes through run.py. Prints the comparison, and
the Dice of the best intensity band, chosen on the lesions of val and applied to those of test.
"""

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from datamodules.phantoms.pneumothorax import draw_images

ROOT = Path(__file__).parent.parent
VARIANTS = {"with_confounders": True, "train_without": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "confounders")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--contrast", type=float, default=2.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("words", nargs="*", help="further words for run.py")
    asked = parser.parse_args()
    write(asked.folder, asked.images, asked.size, asked.contrast)
    folders = [asked.folder / f"runs/{name}/{seed}" for name in VARIANTS for seed in asked.seeds]
    for folder in folders:
        if not (folder / "report.json").is_file():
            train(asked.folder, folder, asked.size, asked.words)
    run(
        "do=[compare]",
        f"runs=[{','.join(map(str, folders))}]",
        f"hydra.run.dir={asked.folder / 'comparison'}",
    )
    print("best intensity band, mean Dice of test lesions:", round(brightness(asked.folder), 4))


def write(folder: Path, images: int, size: int, contrast: float) -> None:
    """Draw both sets, and write a table for each variant; patients are split by their number."""
    if (folder / "with_confounders.csv").is_file():
        return
    for kind, confounders in (("plain", False), ("confounded", True)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for one in draw_images(images, size, 0.3, confounders, 0, contrast):
            cv2.imwrite(str(folder / kind / f"{one.name}.png"), one.image)
            cv2.imwrite(str(folder / kind / f"{one.name}_mask.png"), one.mask * 255)
    for name, confounded in VARIANTS.items():
        lines = ["id,image,mask,group,split"]
        for one in draw_images(images, size, 0.3, False, 0, contrast):
            split = {0: "test", 1: "test", 2: "val"}.get(int(one.patient[1:]) % 10, "train")
            kind = "confounded" if confounded or split != "train" else "plain"
            mask = f"{kind}/{one.name}_mask.png" if one.mask.any() else ""
            lines.append(f"{one.name},{kind}/{one.name}.png,{mask},{one.patient},{split}")
        (folder / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")


def train(folder: Path, run_dir: Path, size: int, words: list[str]) -> None:
    """Train one variant with one seed; the overrides differ only in the table."""
    name, seed = run_dir.parent.name, run_dir.name
    run(
        *(
            "experiment=curriculum_pnx",
            "datamodule=table",
            "datamodule/augmentation=chest",
            "datamodule/sampling=natural",
        ),
        *(
            f"datamodule.root={folder}",
            f"datamodule.manifest_name={name}.csv",
            "datamodule.classes=[pneumothorax]",
            "datamodule.cls_prob=null",
        ),
        *(
            "module.net.encoder.name=resnet18",
            "module.net.encoder.weights=null",
            "module.encoder_lr_mult=1.0",
            "datamodule.batch_size=8",
        ),
        *(
            f"image_size={size}",
            f"evaluation_size={size}",
            f"seed={seed}",
            f"title={name}",
            f"hydra.run.dir={run_dir}",
        ),
        *(
            "trainer.enable_progress_bar=false",
            "trainer.max_epochs=12",
            "callbacks.curriculum.stages=[{epochs:12,lr:2e-3,positive_fraction:0.5}]",
        ),
        *words,
    )


def run(*words: str) -> None:
    """Run run.py with command-line overrides."""
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, cwd=ROOT)


def brightness(folder: Path) -> float:
    """Return the mean Dice over test lesions of the band of gray values that is best on val."""
    table = [
        line.split(",")
        for line in (folder / "with_confounders.csv").read_text(encoding="utf-8").splitlines()[1:]
    ]
    bands = [
        (low, high)
        for low, high in itertools.product(range(0, 256, 8), range(0, 257, 8))
        if low < high
    ]
    scores = {}
    for split in ("val", "test"):
        pairs = [
            [cv2.imread(str(folder / cell), 0) for cell in row[1:3]]
            for row in table
            if row[4] == split and row[2]
        ]
        scores[split] = [
            np.mean([_dice((image >= low) & (image < high), mask > 0) for image, mask in pairs])
            for low, high in bands
        ]
    return float(scores["test"][int(np.argmax(scores["val"]))])


def _dice(drawn: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (drawn & true).sum() / (drawn.sum() + true.sum()))


if __name__ == "__main__":
    main()
