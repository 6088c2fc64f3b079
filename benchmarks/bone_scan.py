"""Bone-scan chain on phantoms: cost of learning a segmenter from image labels, not true masks.

Seeds vary initialization and order; phantoms and split stay the same. Each seed trains the
classifier of weak_bone_scan, a segmenter on its pseudo masks, and one on the true masks; all are
evaluated on the same test images. Printed are the mean and standard deviation over seeds, and the
paired differences of the segmenters with their intervals over patients and seeds.

python benchmarks/bone_scan.py [--seeds 0 1 2] [--runs FOLDER]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import parts  # noqa: F401  (puts the repository on the path)

from evaluation.bootstrap import paired_differences
from reporting.run_folder import RunFolder

RUN = Path(__file__).parent.parent / "run.py"
LOCATED = (
    "pointing_box",
    "pointing_mask",
    "hit_rate_center_at_1",
    "hit_rate_center_at_5",
    "froc_at_1",
    "dice",
    "dice_drawn",
)
SEGMENTED = ("dice_lesions", "average_precision", "image_auc", "dice")
OF_LESIONS = (
    "callbacks.threshold_search.top=null",
    "callbacks.threshold_search.lesions_only=true",
)  # what is compared is how well lesions are drawn
CHAIN = (
    "image_size=[512,128]",  # scans of 256 x 64, enlarged: a cell of the last stage is 4 pixels
    "datamodule.root=${paths.cache}/phantoms/bone_scan_800",
    "datamodule.phantom.patients=800",
    "callbacks.pseudo_labels.boxes.width=28",
    "callbacks.pseudo_labels.boxes.height=28",
    "callbacks.pseudo_labels.boxes.smallest=16",
    "callbacks.pseudo_labels.boxes.largest=96",
    "callbacks.pseudo_labels.boxes.min_distance=12",
    "trainer.max_epochs=14",
)  # of weak_bone_scan
SEGMENTER = (
    "datamodule.batch_size=16",
    "module.net.decoder_channels=[64,32,16,16]",
    "trainer.max_epochs=8",
)  # of pseudo_mask_bone_scan
MANIFESTS = {"pseudo": "pseudo_labels/manifest.csv", "true": "pseudo_labels/true_manifest.csv"}


def run(folder: Path, *words: str) -> dict:
    """Make a run unless it exists already, and return its report."""
    if not (folder / "report.json").is_file():
        fixed = [
            "scale=demo",
            "trainer.enable_progress_bar=false",
            f"hydra.run.dir={folder}",
            "datamodule.seed=0",
        ]
        subprocess.run([sys.executable, RUN, *fixed, *words], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def said(values: list[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_bone_scan"))
    args = parser.parse_args()
    weak, masks = {}, {kind: {} for kind in MANIFESTS}
    for seed in args.seeds:
        chain = args.runs / f"weak{seed}"
        weak[seed] = run(chain, "experiment=weak_bone_scan", f"seed={seed}", *CHAIN)
        for kind, name in MANIFESTS.items():
            words = [
                "experiment=pseudo_mask_bone_scan",
                f"datamodule.root={chain}",
                f"datamodule.manifest_name={name}",
                f"seed={seed}",
            ]
            masks[kind][seed] = run(args.runs / f"{kind}{seed}", *words, *SEGMENTER, *OF_LESIONS)
    scores = [report["scores"]["test"]["abnormal"] for report in weak.values()]
    print(
        "image AUC", said([score["auc"]["value"] for score in scores]), "n =", scores[0]["auc"]["n"]
    )
    tables = [report["pseudo_labels"]["localization"]["table"] for report in weak.values()]
    for method in tables[0]:
        there = [
            name for name in LOCATED if tables[0][method].get(name, {}).get("value") is not None
        ]
        print(
            f"{method}:",
            *(
                f"{name} {said([table[method][name]['value'] for table in tables])};"
                for name in there
            ),
        )
    for report in weak.values():
        print(report["pseudo_labels"]["localization"]["summary"])
    for kind, reports in masks.items():
        of_test = [next(iter(report["scores"]["test"].values())) for report in reports.values()]
        there = [name for name in SEGMENTED if name in of_test[0]]
        print(
            f"segmenter, {kind} masks:",
            *(f"{name} {said([score[name]['value'] for score in of_test])};" for name in there),
        )
    read_runs = {
        kind: [RunFolder(args.runs / f"{kind}{seed}").evidence for seed in args.seeds]
        for kind in MANIFESTS
    }
    gaps = paired_differences(read_runs["true"], read_runs["pseudo"])
    print(
        "pseudo minus true:",
        *(
            f"{name} {gaps[name].value:+.3f} [{gaps[name].low}, {gaps[name].high}];"
            for name in SEGMENTED
            if name in gaps
        ),
    )


if __name__ == "__main__":
    main()
