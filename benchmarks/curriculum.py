"""Comparison of a curriculum, a fixed rate and natural sampling, on phantoms.

python benchmarks/curriculum.py [--seeds 0 1 2]

Three variants of curriculum_pnx on the demo's phantoms, at 128 px, with the same stages of learning
rate, the same number of images seen and the same test set. Each run goes through run.py; a finished
run is not repeated. Prints the comparison.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RATES = ("2.0e-3", "1.0e-3", "5.0e-4")
PLAIN = ("datamodule/sampling=natural", "datamodule.cls_prob=null")
PHANTOMS = (
    "scale=demo",
    "image_size=128",
    "datamodule.root=${paths.cache}/phantoms/pneumothorax_128",
    "datamodule.phantom.images=1200",
    "datamodule.phantom.size=128",
    "datamodule.phantom.contrast=4.0",
    "datamodule.seed=0",
    "trainer.enable_progress_bar=false",
)
PRECLASSIFIER = (
    "experiment=preclassify_pnx",
    *PHANTOMS,
    "~module.net.channels",
    "module.optimizer.lr=1.0e-3",
    "datamodule.batch_size=16",
    "datamodule.batches_per_epoch=25",
    "trainer.max_epochs=8",
)
SEGMENTER = (
    "experiment=curriculum_pnx",
    *PHANTOMS,
    "evaluation_size=128",
    "module.net.encoder_depth=5",
    "module.net.decoder_channels=[256,128,64,32,16]",
    "datamodule.batch_size=8",
    "datamodule.batches_per_epoch=50",
    "trainer.max_epochs=12",
)
WEIGHTS = (  # of positives by size, large to small, and of negatives
    "1_q4: 0.8, 1_q3: 0.7, 1_q2: 0.7, 1_q1: 0.6, 0_none: 0.2",
    "1_q4: 0.5, 1_q3: 0.5, 1_q2: 0.8, 1_q1: 0.8, 0_none: 0.4",
    "1_q4: 0.2, 1_q3: 0.2, 1_q2: 1.0, 1_q1: 1.0, 0_none: 0.6",
)
STAGES = tuple(
    f"positive_fraction: {rate}, strata_weights: {{{weights}}}"
    for rate, weights in zip((0.7, 0.5, 0.2), WEIGHTS, strict=True)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "curriculum")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("words", nargs="*", help="further words for run.py")
    asked = parser.parse_args()
    preclassifier = asked.folder / "preclassifier"
    if not (preclassifier / "cls_prob.csv").is_file():
        run(*PRECLASSIFIER, f"hydra.run.dir={preclassifier}")
    variants = {
        "curriculum": (stages(*STAGES), f"datamodule.cls_prob={preclassifier}"),
        "fixed_rate": (*PLAIN, stages(*["positive_fraction: 0.5"] * 3)),
        "natural": (*PLAIN, stages(*[""] * 3)),
    }
    folders = [
        (asked.folder / name / str(seed), name, words, seed)
        for name, words in variants.items()
        for seed in asked.seeds
    ]
    for folder, name, words, seed in folders:
        if not (folder / "report.json").is_file():
            run(
                *SEGMENTER,
                f"title={name}",
                f"seed={seed}",
                f"hydra.run.dir={folder}",
                *words,
                *asked.words,
            )
    run(
        "do=[compare]",
        f"runs=[{','.join(str(folder) for folder, *_ in folders)}]",
        f"hydra.run.dir={asked.folder / 'comparison'}",
    )


def stages(*more: str) -> str:
    """Return the override of three learning-rate stages, each with one of `more` added."""
    each = (
        ", ".join(filter(None, ("epochs: 4", f"lr: {rate}", one)))
        for rate, one in zip(RATES, more, strict=True)
    )
    return f"callbacks.curriculum.stages=[{','.join('{' + words + '}' for words in each)}]"


def run(*words: str) -> None:
    """Run run.py with command-line overrides."""
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
