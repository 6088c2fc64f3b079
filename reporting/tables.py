"""Tables of the report and of the terminal: scores, confusion, calibration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.bootstrap import CLASS_MEAN
from evaluation.evidence import ClassificationEvidence, SegmentationEvidence
from evaluation.metrics.segmentation import SegmentationDecision


def terminal_table(title: str = "", show_header: bool = True) -> Table:
    """Return an empty table in the style of all tables on the terminal."""
    return Table(
        title=escape(title) or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_header=show_header,
        padding=(0, 1, 0, 0),
    )


def print_table(found: dict[str, Any], page: Path) -> None:
    """Print the test scores with intervals, trivial baselines, and the path of the page."""
    console = Console()
    evaluated_split = found["evaluated_split"]
    classes = found["scores"][evaluated_split]
    for name, scores in (
        classes.items() if len(classes) == 1 else [(CLASS_MEAN, classes[CLASS_MEAN])]
    ):
        console.print(
            _build_score_table(
                f"{found['title']} · {evaluated_split} · {name}", scores, found.get("units", {})
            )
        )
    console.print(found["caveat"][evaluated_split], style="dim")
    near_duplicates = found["data"]["near_duplicates"]["test_images"]
    if near_duplicates:
        rest = found["scores"].get("test_without_lookalikes", {})
        head = found["headline_metrics"][0]
        last = list(rest.values())[-1:]  # the mean if there are several classes
        scored = "".join(
            f"without {'it' if len(near_duplicates) == 1 else 'them'}, {head} is"
            f" {format_number(s[head]['value'])} (n = {s[head]['n']})"
            for s in last
        )
        console.print(
            f"{len(near_duplicates)} test image{' is' if len(near_duplicates) == 1 else 's are'}"
            " nearly identical to images of train or val;"
            f" {scored or 'no other test image is left'}; datamodule.split=group"
            " datamodule.near_duplicates=join makes a new split that keeps such images together",
            style="yellow",
        )
    console.print(f"page: {page}", soft_wrap=True)


def _build_score_table(title: str, scores: dict[str, Any], units: Mapping[str, str]) -> Table:
    baselines = list(next(iter(scores.values()))["trivial"])
    table = terminal_table(title)
    for column in ("score", "value", "95 % interval", "n", *baselines):
        whole = column in ("score", "95 % interval")
        longest = max(map(len, [column] if whole else column.split()))
        table.add_column(
            column,
            justify="left" if column == "score" else "right",
            no_wrap=whole,
            min_width=longest,
        )
    for score, value in scores.items():
        table.add_row(
            score + format_unit(score, units),
            format_number(value["value"]),
            format_interval(value),
            str(value["n"]),
            *map(format_number, value["trivial"].values()),
        )
    return table


def first_upper(text: str) -> str:
    """Return text with its first letter in upper case, to begin a sentence."""
    return text[:1].upper() + text[1:]


def format_unit(score: str, units: Mapping[str, str]) -> str:
    """Return what follows the name of a score: a comma and its unit, or nothing."""
    return f", {units[score]}" if units.get(score) else ""


def format_number(value: float | None) -> str:
    """Format with four decimals, or a dash if undefined."""
    return "–" if value is None or value != value else f"{value:.4f}"


def format_with_sd(value: float | None, sd: float | None) -> str:
    """Format a mean with its standard deviation, if it has one."""
    return format_number(value) + ("" if sd is None else f" ± {sd:.4f}")


def print_differences(
    console: Console, name: str, reference: str, differences: Mapping[str, Any], verdict: str = ""
) -> None:
    """Print one line: how a variant differs from the first one, by score.

    Args:
        console: The terminal.
        name: The variant.
        reference: The variant that it is compared with.
        differences: Score -> paired difference with its interval.
        verdict: Text before the differences.
    """
    scores = "; ".join(f"{score} {format_signed(gap)}" for score, gap in differences.items())
    console.print(escape(f"{name} minus {reference}: {verdict}{scores}"), soft_wrap=True)


def format_interval(value: dict[str, Any]) -> str:
    """Format as `low – high`, or a dash."""
    return "–" if value["low"] is None else f"{value['low']:.4f} – {value['high']:.4f}"


def format_signed(gap: dict[str, Any]) -> str:
    """Format a difference with its interval, if it has one."""
    span = f" [{gap['low']:+.4f}, {gap['high']:+.4f}]" if gap["low"] is not None else ""
    return f"{gap['value']:+.4f}{span}"


def format_mean(value: float | None) -> str:
    """Format a mean with one decimal, or without decimals if it is a whole number."""
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")


CALIBRATION_METRICS = ("ece", "brier", "nll")


def classification_tables(evidence: Mapping[str, ClassificationEvidence]) -> dict[str, Any]:
    """Return the tables of report.json for labels.

    These are `confusion` (split -> tables) and, if there is a temperature, `calibration` (split ->
    score -> before and after).
    """
    found: dict[str, Any] = {
        "confusion": {split: label_confusion(each) for split, each in evidence.items()}
    }
    if any((each.rule[..., 1] != 1).any() for each in evidence.values()):
        found["calibration"] = {split: _calibration_table(each) for split, each in evidence.items()}
    return found


def label_confusion(evidence: ClassificationEvidence) -> list[dict[str, Any]]:
    """Count truth against decision: one table for exclusive classes, else one per class.

    Returns:
        Tables with `names` and `counts[truth][decision]`.
    """
    predicted, truth = evidence.predicted, evidence.labels > 0
    if evidence.exclusive:
        return [
            {
                "names": list(evidence.classes),
                "counts": (truth.T.astype(int) @ predicted.astype(int)).tolist(),
            }
        ]
    return [
        {
            "names": [f"no {name}", name],
            "counts": [
                [int((t & s).sum()) for s in (~predicted[:, c], predicted[:, c])]
                for t in (~truth[:, c], truth[:, c])
            ],
        }
        for c, name in enumerate(evidence.classes)
    ]


def _calibration_table(evidence: ClassificationEvidence) -> dict[str, dict[str, float]]:
    """Return score -> mean over classes, before (temperature 1) and after."""
    rule = evidence.rule.copy()
    rule[..., 1] = 1.0
    plain = ClassificationEvidence(**{**vars(evidence), "rule": rule})
    once = np.ones((1, len(evidence)))
    scores = [score for score in evidence.metrics if score.name in CALIBRATION_METRICS]

    def mean(scaled: ClassificationEvidence, value: Any) -> float:
        """Average a score over the classes."""
        classes = range(len(scaled.classes))
        return float(np.mean([value(scaled.decision(c), once)[0] for c in classes]))

    return {
        score.name: {"before": mean(plain, score.compute), "after": mean(evidence, score.compute)}
        for score in scores
    }


def segmentation_confusion(evidence: SegmentationEvidence) -> list[dict[str, Any]]:
    """Return `names` and `counts[truth][decision]` of each class at the rule.

    `counts` are images; `pixels` counts pixels in the same way. Exclusive classes have one table of
    pixels for all of them and the background.
    """
    if evidence.exclusive:
        pixels = evidence.confusion.sum(0, dtype=np.int64).tolist()
        return [{"names": ["background", *evidence.classes], "pixels": pixels}]
    return [_class_confusion(name, evidence.decision(c)) for c, name in enumerate(evidence.classes)]


def _class_confusion(name: str, decided: SegmentationDecision) -> dict[str, Any]:
    predicted, truth = decided.predicted, decided.positive
    tp, fp, fn, tn = (int(part.sum()) for part in decided.pixels)
    counts = [[int((t & s).sum()) for s in (~predicted, predicted)] for t in (~truth, truth)]
    return {"names": [f"no {name}", name], "counts": counts, "pixels": [[tn, fp], [fn, tp]]}


STAGE_COLUMNS = (
    "epochs",
    "lr",
    "image_size",
    "batch_size",
    "positive_fraction",
)


def format_stage(stage: Mapping[str, Any]) -> str:
    """Return the label of a stage, such as `stage 1 · lr 1e-4 · pos .5`."""
    asked = stage["asked"]
    words = [f"stage {stage['stage']}"]
    words += [f"lr {format_lr(asked['lr'])}"] if "lr" in asked else []
    words += (
        [f"pos {format_fraction(asked['positive_fraction'])}"]
        if "positive_fraction" in asked
        else []
    )
    return " · ".join(words)


def format_lr(value: float) -> str:
    """Format a learning rate without padding: `3e-4`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_fraction(value: float | Mapping[str, float]) -> str:
    """Format a share without its leading zero, `.5`, or one that changes, `.8→.22`."""
    if isinstance(value, Mapping):
        return f"{format_fraction(value['from'])}→{format_fraction(value['to'])}"
    return f"{value:.3g}".removeprefix("0") or "0"


def format_overrides(asked: Mapping[str, Any]) -> str:
    """Describe the settings of a stage that have no column of their own."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_plain_value(value)}"
        for name, value in asked.items()
        if name not in STAGE_COLUMNS
    )


def _plain_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={number}" for name, number in value.items())
    return "yes" if value is True else str(value)


FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")  # with which spreadsheets begin what they run


def spreadsheet_cell(value: Any) -> Any:
    """Return a cell of a CSV for people, in which a spreadsheet runs no text as a formula.

    A quote before it makes it a text, as OWASP recommends; numbers stay numbers.
    """
    if not isinstance(value, str) or not value.startswith(FORMULA_MARKS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
