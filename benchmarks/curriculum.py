"""Comparison of a curriculum, a fixed rate and natural sampling, on phantoms.

python benchmarks/curriculum.py [--seeds 0 1 2]

The demo of curriculum_pnx in three variants with the same stages of learning rate, the same number
of images seen and the same test set. Each run goes through run.py; a finished run is not repeated.
Prints the comparison.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RATES = ("2.0e-3", "1.0e-3", "5.0e-4")
PLAIN = ("datamodule/sampling=natural", "datamodule.cls_prob=null")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "curriculum")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("words", nargs="*", help="further words for run.py")
    asked = parser.parse_args()
    arms = {
        "curriculum": (),
        "fixed_rate": (*PLAIN, stages("positive_fraction: 0.5")),
        "natural": (*PLAIN, stages()),
    }
    folders = [
        (asked.folder / name / str(seed), name, words, seed)
        for name, words in arms.items()
        for seed in asked.seeds
    ]
    for folder, name, words, seed in folders:
        if not (folder / "report.json").is_file():
            fixed = (
                "experiment=curriculum_pnx",
                "scale=demo",
                "datamodule.seed=0",
                "trainer.enable_progress_bar=false",
            )
            run(
                *fixed,
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
    """Return the override of the demo's three learning-rate stages, each with `more` added."""
    return (
        "callbacks.curriculum.stages=["
        f"{','.join('{' + ', '.join(('epochs: 4', f'lr: {rate}', *more)) + '}' for rate in RATES)}"
        "]"
    )


def run(*words: str) -> None:
    """Run run.py with command-line overrides."""
    subprocess.run([sys.executable, str(ROOT / "run.py"), *words], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
