"""Tables and the figure of docs/results.md from the lines of real_images.py and real_others.py.

python benchmarks/real_tables.py [--results DIR] [--figure docs/learning_curves.png]

Scores are means over seeds. Intervals and paired differences are those of evaluation/bootstrap.py:
each replicate resamples the groups (patients, or original images) and the seeds.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from real_images import FRACTIONS, RESULTS
from real_lines import read_lines, restore

from evaluation.bootstrap import PairedDifference, paired_differences, seed_statistics
from evaluation.evidence import Evidence

Lines = list[dict[str, Any]]
MASK_SCORES, LABEL_SCORES = ("dice", "precision", "recall"), ("auc", "f1", "accuracy")


def by_variant(lines: Lines) -> dict[str, Lines]:
    """Group lines by variant, in their order."""
    found = defaultdict(list)
    for line in lines:
        found[line["variant"]].append(line)
    return dict(found)


def seed_evidence(lines: Lines, split: str) -> dict[int, Evidence]:
    """Return the evidence of each seed that has all folds; folds are merged."""
    folds = {line["fold"] for line in lines}
    found = {}
    for seed in sorted({line["seed"] for line in lines}):
        own = [line for line in lines if line["seed"] == seed]
        if {line["fold"] for line in own} == folds:
            found[seed] = Evidence.merge([restore(line[split]) for line in own])
    return found


def interval(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """Write ` [low, high]`, or nothing if there is no interval."""
    return "" if low is None or high is None else f" [{write(low)}, {write(high)}]"


def signless(value: float) -> str:
    """Write a number without its leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1)


def signed(value: float) -> str:
    """Write a difference with its sign, without its leading zero."""
    return f"{value + 0.0:+.3f}".replace("-0.000", "+0.000").replace("0.", ".", 1)


def difference(found: PairedDifference) -> str:
    """Write a paired difference with its interval."""
    return signed(found.value) + interval(found.low, found.high, signed)


def low_to_high(values: Sequence[float], form: str) -> str:
    """Write the lowest and the highest value, or one number if they read the same."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def mean_of_folds(lines: Lines, name: str) -> str:
    """Return a score's mean over the folds and seeds, each fold by itself."""
    each = [line["scores"]["test"][name] for line in lines]
    return signless(sum(each) / len(each))


def score_table(lines: Lines, names: Sequence[str], splits: Sequence[str]) -> str:
    """Return one line a variant: cost, and each score with its interval; the seeds' own first."""
    head = ["variant", "trained parameters", "lr", "images seen", "seconds", "seeds"]
    head += [f"{split} {name}" for split in splits for name in names]
    folded = len({line["fold"] for line in lines}) > 1
    head += ["mean auc of the folds"] if folded else []
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for variant, own in by_variant(lines).items():
        evidence = {split: seed_evidence(own, split) for split in splits}
        seeds = len(evidence[splits[0]])
        if not seeds:
            continue
        cells = [
            variant,
            f"{own[0]['trained_parameters']:,}",
            f"{own[0]['lr']:g}",
            f"{own[0]['images']:,}",
            low_to_high([line["train_seconds"] for line in own], "{:.0f}"),
            str(seeds),
        ]
        for split in splits:
            found = next(iter(seed_statistics(list(evidence[split].values())).values()))
            for name in names:
                sd = found[name]["sd"]
                cells.append(
                    signless(found[name]["value"])
                    + ("" if sd is None else f" ± {signless(sd)}")
                    + interval(found[name]["low"], found[name]["high"], signless)
                )
        cells += [mean_of_folds(own, "auc")] if folded else []
        rows.append("| " + " | ".join(cells) + " |")
    first = next(iter(seed_evidence(lines, splits[0]).values()))
    return "\n".join([*rows, *baseline_rows(first, names, splits)])


def baseline_rows(evidence: Evidence, names: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Return the predictions without skill, for labels."""
    if evidence.kind != "label":
        return []
    estimates = next(iter(seed_statistics([evidence], 1).values()))
    trivial = estimates[names[0]]["trivial"]
    return [
        f"| {prediction} | | | | | | "
        + " | ".join(signless(estimates[name]["trivial"][prediction]) for name in names)
        + " | |"
        for prediction in trivial
        if prediction != "prevalence"
    ]


def difference_table(
    lines: Lines, pairs: Sequence[tuple[str, str]], names: Sequence[str], splits: Sequence[str]
) -> str:
    """Return the paired differences of pairs of variants, second minus first."""
    of = by_variant(lines)
    head = ["difference", "seeds", *(f"{split} {name}" for split in splits for name in names)]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for first, second in pairs:
        if first not in of or second not in of:
            continue
        cells, seeds = [], 0
        for split in splits:
            one, other = seed_evidence(of[first], split), seed_evidence(of[second], split)
            common = sorted(set(one) & set(other))
            seeds = len(common)
            if not common:
                break
            found = paired_differences([one[s] for s in common], [other[s] for s in common])
            cells += [difference(found[name]) for name in names]
        if cells:
            rows.append("| " + " | ".join([f"{second} minus {first}", str(seeds), *cells]) + " |")
    return "\n".join(rows)


def curve_values(mri: Lines, curve: Lines) -> dict[str, dict[float, list[float]]]:
    """Return variant -> fraction -> test Dice of each seed."""
    found: dict[str, dict[float, list[float]]] = {}
    for line in [*curve, *mri]:
        if line["variant"] in ("scratch", "fine-tuned"):
            found.setdefault(line["variant"], {}).setdefault(line["fraction"], []).append(
                line["scores"]["test"]["dice"]
            )
    return found


def curve_table(mri: Lines, curve: Lines) -> str:
    """Return test Dice by fraction, mean and range over seeds, and the paired differences."""
    values = curve_values(mri, curve)
    rows = [
        "| groups (images) of train | scratch | fine-tuned | seeds | difference |",
        "|---|---|---|---|---|",
    ]
    for fraction in (*FRACTIONS, 1.0):
        own = [line for line in [*curve, *mri] if line["fraction"] == fraction]
        own = [line for line in own if line["variant"] in values]
        if len({line["variant"] for line in own}) < 2:
            continue
        cells = [f"{fraction:.0%} ({own[0]['train_images']})"]
        for variant in ("scratch", "fine-tuned"):
            each = values[variant][fraction]
            spread = f" ({signless(min(each))} to {signless(max(each))})" if len(each) > 1 else ""
            cells.append(signless(sum(each) / len(each)) + spread)
        cells.append(str(len(each)))
        one, other = (
            seed_evidence([line for line in own if line["variant"] == variant], "test")
            for variant in ("scratch", "fine-tuned")
        )
        common = sorted(set(one) & set(other))
        gap = paired_differences([one[s] for s in common], [other[s] for s in common])["dice"]
        rows.append("| " + " | ".join([*cells, difference(gap)]) + " |")
    return "\n".join(rows)


def draw_curves(mri: Lines, curve: Lines, path: Path) -> None:
    """Draw test Dice over the number of training images: mean and range over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    images = {line["fraction"]: line["train_images"] for line in [*curve, *mri]}
    figure, axes = plt.subplots(figsize=(5.2, 3.6), dpi=150)
    styles = {"scratch": ("o", "--", "#b35900"), "fine-tuned": ("s", "-", "#004c99")}
    labels = {"scratch": "from scratch", "fine-tuned": "ImageNet weights, fine-tuned"}
    for variant, by_fraction in curve_values(mri, curve).items():
        marker, line, color = styles[variant]
        fractions = sorted(by_fraction)
        x = [images[fraction] for fraction in fractions]
        means = [sum(by_fraction[f]) / len(by_fraction[f]) for f in fractions]
        axes.fill_between(
            x,
            [min(by_fraction[f]) for f in fractions],
            [max(by_fraction[f]) for f in fractions],
            color=color,
            alpha=0.2,
            linewidth=0,
        )
        axes.plot(x, means, line, marker=marker, color=color, label=labels[variant])
    axes.set_xscale("log")
    ticks = sorted(set(images.values()))
    axes.set_xticks(ticks, [f"{n}\n({f:.0%})" for f, n in sorted(images.items())])
    axes.minorticks_off()
    axes.set_xlabel("training images (share of the groups)")
    axes.set_ylabel("Dice on 115 test images")
    axes.set_title("Brain MRI, UNet++ with Lite0, equal training time", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="mean and range of the seeds", fontsize=9, title_fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def looks(lines: Lines) -> str:
    """Return what was tried on val to choose the learning rates."""
    score = "auc" if "auc" in lines[0]["scores"]["val"] else "dice"
    rates = sorted({line["lr"] for line in lines})
    rows = [
        "| val " + score + " of seed 0 | " + " | ".join(f"lr {rate:g}" for rate in rates) + " |",
        "|" + "---|" * (len(rates) + 1),
    ]
    for variant, own in by_variant(lines).items():
        of = {line["lr"]: signless(line["scores"]["val"][score]) for line in own}
        rows.append(f"| {variant} | " + " | ".join(of.get(rate, "–") for rate in rates) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    every = {
        name: read_lines(args.results / f"{name}.jsonl")
        for name in ("mri", "radiographs", "curve", "lungs", "others")
    }
    tried = {name: [x for x in lines if x["kind"] == "look"] for name, lines in every.items()}
    runs = {name: [x for x in lines if x["kind"] == "run"] for name, lines in every.items()}
    for name, lines in tried.items():
        if lines:
            print(f"\n## learning rates, {name}\n\n{looks(lines)}")
    segmenters = [("scratch", name) for name in ("fine-tuned", "lora", "frozen")]
    segmenters += [("fine-tuned", "lora"), ("fine-tuned", "frozen")]
    if runs["mri"]:
        print("\n## mri\n")
        print(score_table(runs["mri"], ("dice",), ("val", "test")), "\n")
        print(difference_table(runs["mri"], segmenters, ("dice",), ("val", "test")))
    if runs["radiographs"]:
        pairs = [("scratch", name) for name in ("probe", "lora4", "lora16", "full")]
        pairs += [("probe", "lora4"), ("probe", "lora16"), ("probe", "full")]
        pairs += [("lora4", "lora16"), ("lora16", "full")]
        print("\n## radiographs\n")
        print(score_table(runs["radiographs"], LABEL_SCORES, ("test",)), "\n")
        print(difference_table(runs["radiographs"], pairs, LABEL_SCORES, ("test",)))
    if runs["curve"]:
        print(f"\n## curve\n\n{curve_table(runs['mri'], runs['curve'])}")
        if args.figure:
            draw_curves(runs["mri"], runs["curve"], args.figure)
    if runs["lungs"]:
        print("\n## lungs\n")
        print(score_table(runs["lungs"], ("dice",), ("val", "test")), "\n")
        print(difference_table(runs["lungs"], segmenters, ("dice",), ("val", "test")))
    if runs["others"]:
        both = [line for line in runs["mri"] if line["variant"] == "fine-tuned"] + runs["others"]
        pairs = [(name, "fine-tuned") for name in by_variant(runs["others"])]
        print("\n## others\n")
        print(score_table(both, ("dice",), ("test",)), "\n")
        print(difference_table(both, pairs, ("dice",), ("test",)))


if __name__ == "__main__":
    main()
