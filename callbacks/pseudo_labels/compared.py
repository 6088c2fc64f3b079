"""A method against its baselines: paired differences over patients, and the sentence that says whether it points better than they do."""

from collections.abc import Mapping, Sequence

import numpy as np

from callbacks.comparison.paired import TIE_TOLERANCE, PairedDifference
from callbacks.pseudo_labels.localisation import counting, patients, resampled, values
from callbacks.pseudo_labels.localisation_rules import LocalisationRules, froc_at
from callbacks.pseudo_labels.measured import Localised, refuse_unpaired
from lightning_modules.uncertainty import MIN_GROUPS, Estimate, percentile_interval

HEAD = "pointing_box"
COMPARED = (HEAD, "hit_rate_centre_at_1", "hit_rate_iou_at_1", froc_at(1))


def differences(
    method: Localised,
    baseline: Localised,
    rules: LocalisationRules,
    scores: Sequence[str] = COMPARED,
) -> dict[str, PairedDifference]:
    """Score -> method minus baseline, with the 95 % interval of the paired bootstrap: each draw of the patients is the same for both.

    Args:
        method: Measured on the same images as the baseline.
        baseline: Likewise.
        rules: Its `resamples` and `seed` are those of the draws.
        scores: Names; what the rules do not have is left out.

    Raises:
        ValueError: the two saw different images.
    """
    refuse_unpaired(method, baseline)
    points, draws = (
        [values(each, rules) for each in (method, baseline)],
        [resampled(each, rules) for each in (method, baseline)],
    )
    found = {}
    for name in scores:
        if name not in points[0]:
            continue
        gap = draws[0][name] - draws[1][name] if draws[0] else np.zeros(0)
        gap = gap[np.isfinite(gap)]
        enough = len(gap) and patients(method, counting(method, name)) >= MIN_GROUPS
        low, high = percentile_interval(gap, bool(enough))
        found[name] = PairedDifference(
            points[0][name] - points[1][name],
            low,
            high,
            float((gap > TIE_TOLERANCE).mean()) if enough else float("nan"),
        )
    return found


def verdict(
    method: Estimate,
    baselines: Mapping[str, Estimate],
    gaps: Mapping[str, PairedDifference] | None = None,
    name: str = "the pointing game",
) -> str:
    """One sentence: whether the method's interval lies above those of all baselines, that is above their upper ends.

    Args:
        method: Its estimate of a score, `estimates(...)["pointing_box"]`.
        baselines: Words -> the same score of a baseline.
        gaps: Words -> paired difference from that baseline, which the sentence ends with where they
            are given: two intervals may overlap while the difference is clear.
        name: Words for the score.
    """
    if not np.isfinite(method.value):
        return (
            f"{_capital(name)} has no image with a known lesion, so whether it lies above"
            f" {_and(list(baselines))} is not known."
        )
    said = {words: f"{words} ({_span(score)})" for words, score in baselines.items()}
    start = f"{_capital(name)} ({_span(method)}, n = {method.n})"
    if method.low is None or any(score.low is None for score in baselines.values()):
        few = f"has no interval, because fewer than {MIN_GROUPS} patients with a lesion count"
        return f"{start} {few}: whether it lies above {_and(list(said.values()))} is not known."
    above = [
        said[words]
        for words, score in baselines.items()
        if score.high is not None and method.low > score.high
    ]
    rest = [text for text in said.values() if text not in above]
    if not rest:
        claim = f"lies above {_and(above)}"
    else:
        claim = (
            f"lies above {_and(above)}, but not above {_and(rest, 'or')}"
            if above
            else f"does not lie above {_and(rest, 'or')}"
        )
    paired = [f"{_signed(gap)} from {words}" for words, gap in (gaps or {}).items()]
    return f"{start} {claim}{'; paired differences: ' + _and(paired) if paired else ''}."


def _span(score: Estimate) -> str:
    return _short(score.value) + (
        f" [{_short(score.low)}, {_short(score.high)}]"
        if score.low is not None and score.high is not None
        else ""
    )


def _signed(gap: PairedDifference) -> str:
    ends = (
        f" [{_short(gap.low, '+')}, {_short(gap.high, '+')}]"
        if gap.low is not None and gap.high is not None
        else ""
    )
    return _short(gap.value, "+") + ends


def _short(value: float, sign: str = "") -> str:
    """Two decimals without the leading zero, as .62 and -.05."""
    return f"{value:{sign}.2f}".replace("0.", ".", 1)


def _and(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
