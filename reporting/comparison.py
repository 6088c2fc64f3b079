"""Compare runs on the same test set: do=[compare] writes comparison.html and comparison.csv."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator
from rich.console import Console
from rich.markup import escape

from datamodules.errors import UserError
from evaluation.bootstrap import bootstrap_caveat, paired_differences
from reporting.figures.style import PALETTE, figure
from reporting.figures.training import IMAGES, read_stages
from reporting.file_io import write_json
from reporting.ranking import BEST_ON_VAL, Ranking, choose_ranking, significance_label
from reporting.rendering import render
from reporting.run_folder import (
    RunFolder,
    find_evaluated_runs,
    group_by_config,
    overall_scores,
)
from reporting.tables import format_number, format_with_sd, print_differences, terminal_table

EPOCH, IMAGES_SEEN = "epoch", "images seen"


@dataclass(frozen=True)
class TrainingCurve:
    """One run.

    Attributes:
        table: Epoch (from 0) -> what was logged, `epoch` (from 1) and `images seen` at its end; the
            latter NaN where it is not known.
        stages: As `read_stages` gives them.
    """

    table: pd.DataFrame
    stages: list[dict[str, Any]]

    def metric_points(self, score: str, x_axis: str) -> pd.DataFrame:
        """Return x (`epoch` or `images seen`) and y (a score) of the epochs with both known."""
        if score not in self.table:
            return pd.DataFrame({"x": [], "y": []})
        return pd.DataFrame({"x": self.table[x_axis], "y": self.table[score]}).dropna()

    def stage_starts(self, x_axis: str) -> list[float]:
        """Return where each stage after the first begins; for `epoch` halfway between two."""
        found = []
        for stage in self.stages[1:]:
            before = stage["first_epoch"] - 1
            if before in self.table.index and pd.notna(self.table[x_axis][before]):
                found.append(float(self.table[x_axis][before]) + (0.5 if x_axis == EPOCH else 0.0))
        return found


def load_curve(run: RunFolder) -> TrainingCurve:
    """Read the course of a run; it has no epochs if metrics.csv is missing."""
    table = run.epochs()
    if len(table):
        table = table.assign(epoch=table.index.to_numpy() + 1).assign(
            **{IMAGES_SEEN: count_images_seen(table, run.report)}
        )
    return TrainingCurve(table, read_stages(run))


def count_images_seen(table: pd.DataFrame, report: Mapping[str, Any]) -> pd.Series:
    """Count the images trained on by the end of each epoch.

    Adds up the images that were logged as sampled; without that log each epoch has an equal share
    of all images trained on. NaN where the table does not begin with the first epoch, as after
    resuming from another run.
    """
    trained = (report.get("resources") or {}).get("images_trained")
    if list(table.index) != list(range(len(table))):
        each = pd.Series(float("nan"), table.index)
    elif IMAGES in table and table[IMAGES].notna().all():
        each = table[IMAGES]
    else:
        each = pd.Series(float("nan") if trained is None else trained / len(table), table.index)
    return each.cumsum()


def load_curves(variants: Mapping[str, Sequence[RunFolder]]) -> dict[str, list[TrainingCurve]]:
    """Map each arm to its courses."""
    return {name: [load_curve(run) for run in runs] for name, runs in variants.items()}


def variants_without_image_count(variants: Mapping[str, Sequence[TrainingCurve]]) -> list[str]:
    """List the arms with a run that was trained here on an unknown number of images."""
    return [
        name
        for name, runs in variants.items()
        if any(len(run.table) and run.table[IMAGES_SEEN].isna().any() for run in runs)
    ]


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average x and y over all curves, in the epochs that all of them have."""
    by_epoch = pd.concat(curves).groupby(level=0)
    return by_epoch.mean()[by_epoch.size() == len(curves)]


def summarize_stages(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Summarize each stage over the runs that entered it; empty where there was no curriculum."""
    each = [read_stages(run) for run in runs]
    return [
        _summarize_stage([run[n] for run in each if len(run) > n])
        for n in range(max(map(len, each)))
    ]


def _summarize_stage(run_stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    best = [stage["best"]["score"] for stage in run_stages if stage["best"]["score"] is not None]
    return {
        "stage": run_stages[0]["stage"],
        "asked": run_stages[0]["asked"],
        "runs": len(run_stages),
        "best": _mean_or_none(best),
        "sd": stdev(best) if len(best) > 1 else None,
        "best_epoch": _mean_or_none(
            [
                stage["best"]["epoch"] + 1
                for stage in run_stages
                if stage["best"]["epoch"] is not None
            ]
        ),
        "epochs": _mean_or_none(
            [stage["last_epoch"] - stage["first_epoch"] + 1 for stage in run_stages]
        ),
        "positive": _mean_or_none(
            [
                stage["sampled"]["positive_fraction"]
                for stage in run_stages
                if "positive_fraction" in stage["sampled"]
            ]
        ),
        "images": _mean_or_none(
            [stage["sampled"]["images"] for stage in run_stages if "images" in stage["sampled"]]
        ),
    }


def _mean_or_none(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def common_stage_score(runs: Sequence[RunFolder]) -> str:
    """The score that the best epochs of stages were chosen by, where all runs share it."""
    names = {name for name, _ in (run.monitor for run in runs)}
    return names.pop() if len(names) == 1 else "monitored score (it differs between the arms)"


def best_per_stage(
    variant_stages: Sequence[list[dict[str, Any]]], runs: Sequence[RunFolder]
) -> list[float | None]:
    """Stage -> the best score of an arm; None where nothing or no single score was monitored."""
    monitors = {run.monitor for run in runs}
    better = min if monitors == {(next(iter(monitors))[0], "min")} else max
    found: list[float | None] = []
    for n in range(max(map(len, variant_stages))):
        scores = [
            arm[n]["best"] for arm in variant_stages if len(arm) > n and arm[n]["best"] is not None
        ]
        found.append(better(scores) if scores and len(monitors) == 1 else None)
    return found


DASHES = (
    (),
    (6, 2),
    (2, 1.5),
    (7, 2, 1.5, 2),
    (9, 2, 3, 2),
    (4, 1.5, 1.5, 1.5, 1.5, 1.5),
)  # on, off, ... in widths of the line
COLORS = PALETTE[:6]
VariantCurves = Mapping[str, Sequence[TrainingCurve]]


def line_style(variant: int) -> tuple[str, tuple[float, ...]]:
    """Return an arm's colour and dashes; beyond six arms the colours repeat with other dashes."""
    return COLORS[variant % 6], DASHES[(variant + variant // 6) % 6]


def legend_entries(variants: VariantCurves) -> list[dict[str, str]]:
    """Describe each trained arm for the page's key: title, colour and dashes."""
    found = []
    for number, (name, runs) in enumerate(variants.items()):
        colour, dashes = line_style(number)
        if any(len(run.table) for run in runs):
            found.append(
                {
                    "title": name,
                    "color": colour,
                    "dashes": " ".join(f"{2.5 * length:g}" for length in dashes) or "none",
                }
            )
    return found


def plot_curves(variants: VariantCurves, score: str) -> dict[str, str]:
    """Draw the figures: title -> SVG; a score that no arm logged has none.

    Args:
        variants: Arm -> courses of its runs.
        score: Such as `val/dice`.
    """
    found = {}
    for over in (EPOCH, IMAGES_SEEN):
        for name in (score, "val/loss", "train/loss"):
            if any(
                len(run.metric_points(name, over)) for runs in variants.values() for run in runs
            ):
                found[f"{name} against {'epochs' if over == EPOCH else over}"] = figure(
                    partial(_draw_curves, variants=variants, score=name, x_axis=over)
                )
    return found


def _draw_curves(axes: Axes, variants: VariantCurves, score: str, x_axis: str) -> None:
    rows = count()
    for number, runs in enumerate(variants.values()):
        colour, dashes = line_style(number)
        curves = [
            curve for curve in (run.metric_points(score, x_axis) for run in runs) if len(curve)
        ]
        dots = "." if max((len(curve) for curve in curves), default=0) < 15 else ""
        for curve in curves if len(curves) > 1 else []:
            axes.plot(curve["x"], curve["y"], color=colour, linewidth=0.6, alpha=0.45)
        if curves:
            mean = mean_curve(curves)
            axes.plot(
                mean["x"],
                mean["y"],
                color=colour,
                linewidth=2.2 if len(curves) > 1 else 1.8,
                dashes=dashes,
                marker=dots,
            )
            starts = sorted({start for run in runs for start in run.stage_starts(x_axis)})
            if starts:
                _mark_stage_starts(axes, starts, colour, 1.02 + 0.035 * next(rows))
    axes.set(xlabel=x_axis, ylabel=score)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if x_axis == IMAGES_SEEN:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _mark_stage_starts(axes: Axes, starts: Sequence[float], color: str, height: float) -> None:
    """Mark starts by dotted lines and by ticks above the frame.

    Each arm has its own row of ticks, because arms often start together.
    """
    for start in starts:
        axes.axvline(start, color=color, linewidth=0.8, linestyle=":", alpha=0.6)
        axes.plot(
            [start],
            [height],
            "|",
            color=color,
            markersize=6,
            markeredgewidth=2,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


CLASSIFICATION_SCORES = ("auc", "recall", "specificity")


def choose_common_ranking(runs: Sequence[RunFolder]) -> Ranking:
    """Return the score that ranks, with its direction.

    It is the score that all runs monitored on val, where evidence has it; else the first of their
    pages.
    """
    evidence = runs[0].evidence
    return choose_ranking(
        [run.monitor for run in runs],
        {score.name for score in evidence.metrics},
        evidence.headline_metrics[0],
    )


def val_score(run: RunFolder, score: str) -> float:
    """Return the score that ranks a run.

    Of merged folds it is the score out of fold, which is val of the fit that did not see the image.
    """
    return run.score("val" if run.evaluated_split == "test" else run.evaluated_split, score)


def comparison_table(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """Tabulate the runs, one a line, the best on val first.

    Columns: `run`, `title`, `val SCORE`; of labels also `val` of `CLASSIFICATION_SCORES` and
        `threshold`; and
    of each head on test `SCORE`, `SCORE low`, `SCORE high`.
    """
    by = choose_common_ranking(runs)
    lines = sorted(
        (_table_row(run, by.score) for run in runs),
        key=lambda line: by.sort_key(line[f"val {by.score}"]),
    )
    return pd.DataFrame(lines)


def _table_row(run: RunFolder, score: str) -> dict[str, Any]:
    told = run.report
    labels = run.evidence.kind == "label"
    line: dict[str, Any] = {"run": str(run.path), "title": told["title"]}
    for name in dict.fromkeys((score, *(CLASSIFICATION_SCORES if labels else ()))):
        line[f"val {name}"] = val_score(run, name)
    if labels:
        rules = list(told.get("rule", {}).values())
        line["threshold"] = rules[0].get("threshold") if len(rules) == 1 else None
    scores = overall_scores(told["scores"][run.evaluated_split])
    for name in run.evidence.headline_metrics:
        line |= {
            name: scores[name]["value"],
            f"{name} low": scores[name]["low"],
            f"{name} high": scores[name]["high"],
        }
    return line


def compare_runs(folders: Sequence[str], run_dir: Path) -> dict[str, Any]:
    """Write comparison.json, comparison.csv and comparison.html into `run_dir`; print the table.

    Runs that differ only in their seed form one arm.

    Raises:
        UserError: fewer than two runs, or runs of different tasks, images or groups.
    """
    runs = _load_comparable_runs(folders)
    by = choose_common_ranking(runs)
    by_name = group_by_config(runs)
    val = {name: fmean(val_score(run, by.score) for run in arm) for name, arm in by_name.items()}
    ranked = sorted(
        by_name.items(), key=lambda named: by.sort_key(val[named[0]])
    )  # without val scores: last
    rows = [_variant_row(name, arm, ranked[0][1], by) for name, arm in ranked]
    evidence = runs[0].evidence
    found = {
        "heads": evidence.headline_metrics,
        "ranked_by": by.score,
        "compared": list(dict.fromkeys((by.score, *evidence.headline_metrics))),
        "monitored": by.monitored,
        "arms": rows,
        "identity": evidence.identity,
        "n": len(evidence),
        "caveat": bootstrap_caveat(evidence),
        "phantom": runs[0].report["data"]["phantom"],
        "stage_score": common_stage_score(runs),
        "leaders": best_per_stage([row["stages"] for row in rows], runs),
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(found, run_dir / "comparison.json")
    board = comparison_table(runs)
    board.to_csv(run_dir / "comparison.csv", index=False)
    (run_dir / "comparison.html").write_text(
        _render_page(found, dict(ranked), board), encoding="utf-8"
    )
    _print_comparison(found, run_dir / "comparison.html")
    return found


def _load_comparable_runs(folders: Sequence[str]) -> list[RunFolder]:
    """Return the named runs, each once; refuse runs that cannot be compared."""
    if not folders:
        raise UserError(
            "no runs to compare; name their folders with runs=[A,B], latest:EXPERIMENT among them,"
            " or a sweep's folder"
        )
    runs = list(
        {
            run.path.resolve(): run
            for folder in folders
            for run in find_evaluated_runs(Path(folder))
        }.values()
    )
    if len(runs) < 2:
        raise UserError(
            "do=[compare] needs two finished runs or more; name their folders with runs=[A,B], or a"
            " sweep's folder"
        )
    first = runs[0]
    for run in runs[1:]:
        if run.evidence.kind != first.evidence.kind:
            said = f"{first.path} tells {first.evidence.kind}s and {run.path} {run.evidence.kind}s"
            raise UserError(f"{said}, which no score measures alike; compare runs of one task")
        if run.evidence.identity != first.evidence.identity:
            mend = "compare runs on one test set, with the same datamodule.seed"
            raise UserError(f"{first.path} and {run.path} were judged on different images; {mend}")
        if dict(zip(run.evidence.ids, run.evidence.groups, strict=True)) != dict(
            zip(first.evidence.ids, first.evidence.groups, strict=True)
        ):
            raise UserError(
                f"{first.path} and {run.path} group the same images differently; evaluate both"
                " with the same datamodule.group"
            )
    return runs


def _variant_row(
    name: str, runs: list[RunFolder], reference_runs: list[RunFolder], ranking: Ranking
) -> dict[str, Any]:
    reports = [run.report for run in runs]
    judged, heads = runs[0].evaluated_split, runs[0].evidence.headline_metrics
    test = {score: [run.score(judged, score) for run in runs] for score in heads}
    config = reports[0].get("config") or {}
    single = overall_scores(reports[0]["scores"][judged])
    gaps = (
        None
        if runs is reference_runs
        else paired_differences(
            [run.evidence for run in reference_runs], [run.evidence for run in runs]
        )
    )
    return {
        "title": name,
        "runs": [str(run.path) for run in runs],
        "val": fmean(val_score(run, ranking.score) for run in runs),
        "test": {score: fmean(values) for score, values in test.items()},
        "sd": {score: stdev(values) if len(values) > 1 else None for score, values in test.items()},
        "interval": (
            {score: {end: single[score][end] for end in ("low", "high")} for score in heads}
            if len(runs) == 1
            else None
        ),
        "differences": (
            None if gaps is None else {score: asdict(gap) for score, gap in gaps.items()}
        ),
        "verdict": (
            BEST_ON_VAL
            if gaps is None
            else significance_label(gaps[ranking.score], ranking.lower_is_better)
        ),
        "parameters": reports[0].get("parameters"),
        "resources": (
            {key: fmean(r["resources"][key] for r in reports) for key in _COST_KEYS}
            if all(r.get("resources") for r in reports)
            else None
        ),
        "start": config.get("init_from") or "no earlier run",
        "stages": summarize_stages(runs),
    }


_COST_KEYS = ("images_per_second", "peak_memory_gb", "train_seconds")


def _render_page(
    comparison: dict[str, Any], variants: dict[str, list[RunFolder]], table: pd.DataFrame
) -> str:
    gone = load_curves(variants)
    words = {
        "title": "Comparison",
        "phantom": comparison["phantom"],
        "key": legend_entries(gone),
        "uncounted": variants_without_image_count(gone),
        "board": table.to_dict("records"),
    }
    return render(
        "comparison.html",
        found=comparison,
        figures=plot_curves(gone, f"val/{comparison['ranked_by']}"),
        **words,
    )


def _print_comparison(comparison: dict[str, Any], page: Path) -> None:
    console = Console()
    table = terminal_table(f"test, n = {comparison['n']}; ranked by val")
    table.add_column("score")
    for arm in comparison["arms"]:
        table.add_column(f"{escape(arm['title'])}\n{len(arm['runs'])} run(s)", justify="right")
    table.add_row(
        f"val {comparison['ranked_by']}", *(format_number(arm["val"]) for arm in comparison["arms"])
    )
    for name in comparison["heads"]:
        cells = (format_with_sd(arm["test"][name], arm["sd"][name]) for arm in comparison["arms"])
        table.add_row(name, *cells)
    console.print(table)
    for arm in comparison["arms"][1:]:
        print_differences(
            console,
            arm["title"],
            comparison["arms"][0]["title"],
            {name: arm["differences"][name] for name in comparison["compared"]},
            f"{arm['verdict']} by test {comparison['ranked_by']}; ",
        )
    console.print(comparison["caveat"], style="dim")
    console.print(f"page: {page}", soft_wrap=True)
