"""A method against its baselines: paired differences over patients, and the sentence that says whether it points better than they do."""

from collections.abc import Mapping, Sequence

import numpy as np

from callbacks.comparison.paired import TIE_TOLERANCE, PairedDifference
from callbacks.pseudo_labels.localisation import (
    compute_scores,
    count_patients,
    counted_images,
    resample_scores,
)
from callbacks.pseudo_labels.localisation_rules import LocalizationConfig, froc_score_name
from callbacks.pseudo_labels.measured import LocalizationResults, check_same_images
from lightning_modules.uncertainty import MIN_GROUPS, Estimate, percentile_interval

HEADLINE_SCORE = "pointing_box"
COMPARED_SCORES = (HEADLINE_SCORE, "hit_rate_centre_at_1", "hit_rate_iou_at_1", froc_score_name(1))


def baseline_differences(
    method: LocalizationResults,
    baseline: LocalizationResults,
    rules: LocalizationConfig,
    score_names: Sequence[str] = COMPARED_SCORES,
) -> dict[str, PairedDifference]:
    """Score -> method minus baseline, with the 95 % interval of the paired bootstrap: each draw of the patients is the same for both.

    Args:
        method: Measured on the same images as the baseline.
        baseline: Likewise.
        rules: Its `resamples` and `seed` are those of the draws.
        score_names: Names; what the rules do not have is left out.

    Raises:
        ValueError: the two saw different images.
    """
    check_same_images(method, baseline)
    points, draws = (
        [compute_scores(each, rules) for each in (method, baseline)],
        [resample_scores(each, rules) for each in (method, baseline)],
    )
    found = {}
    for name in score_names:
        if name not in points[0]:
            continue
        gap = draws[0][name] - draws[1][name] if draws[0] else np.zeros(0)
        gap = gap[np.isfinite(gap)]
        enough = len(gap) and count_patients(method, counted_images(method, name)) >= MIN_GROUPS
        low, high = percentile_interval(gap, bool(enough))
        found[name] = PairedDifference(
            points[0][name] - points[1][name],
            low,
            high,
            float((gap > TIE_TOLERANCE).mean()) if enough else float("nan"),
        )
    return found


def summary_sentence(
    method: Estimate,
    baselines: Mapping[str, Estimate],
    differences: Mapping[str, PairedDifference] | None = None,
    score_name: str = "the pointing game",
) -> str:
    """One sentence: whether the method's interval lies above those of all baselines, that is above their upper ends.

    Args:
        method: Its estimate of a score, `estimates(...)["pointing_box"]`.
        baselines: Words -> the same score of a baseline.
        differences: Words -> paired difference from that baseline, which the sentence ends with where they
            are given: two intervals may overlap while the difference is clear.
        score_name: Words for the score.
    """
    if not np.isfinite(method.value):
        return (
            f"{_capitalize(score_name)} has no image with a known lesion, so whether it lies above"
            f" {_join_phrases(list(baselines))} is not known."
        )
    said = {words: f"{words} ({_format_estimate(score)})" for words, score in baselines.items()}
    start = f"{_capitalize(score_name)} ({_format_estimate(method)}, n = {method.n})"
    if method.low is None or any(score.low is None for score in baselines.values()):
        few = f"has no interval, because fewer than {MIN_GROUPS} patients with a lesion count"
        return f"{start} {few}: whether it lies above {_join_phrases(list(said.values()))} is not known."
    above = [
        said[words]
        for words, score in baselines.items()
        if score.high is not None and method.low > score.high
    ]
    rest = [text for text in said.values() if text not in above]
    if not rest:
        claim = f"lies above {_join_phrases(above)}"
    else:
        claim = (
            f"lies above {_join_phrases(above)}, but not above {_join_phrases(rest, 'or')}"
            if above
            else f"does not lie above {_join_phrases(rest, 'or')}"
        )
    paired = [
        f"{_format_difference(gap)} from {words}" for words, gap in (differences or {}).items()
    ]
    return f"{start} {claim}{'; paired differences: ' + _join_phrases(paired) if paired else ''}."


def _format_estimate(score: Estimate) -> str:
    return _format_number(score.value) + (
        f" [{_format_number(score.low)}, {_format_number(score.high)}]"
        if score.low is not None and score.high is not None
        else ""
    )


def _format_difference(difference: PairedDifference) -> str:
    ends = (
        f" [{_format_number(difference.low, '+')}, {_format_number(difference.high, '+')}]"
        if difference.low is not None and difference.high is not None
        else ""
    )
    return _format_number(difference.value, "+") + ends


def _format_number(value: float, sign: str = "") -> str:
    """Two decimals without the leading zero, as .62 and -.05."""
    return f"{value:{sign}.2f}".replace("0.", ".", 1)


def _join_phrases(phrases: Sequence[str], conjunction: str = "and") -> str:
    return f" {conjunction} ".join(
        [*([", ".join(phrases[:-1])] if len(phrases) > 1 else []), *phrases[-1:]]
    )


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
