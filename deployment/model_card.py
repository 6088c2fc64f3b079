"""Model card of a bundle: what its network was trained on, how well it does, and its limits.

Every number is one of report.json; what is missing there is said to be missing. Names of files,
folders and images are left out, because a bundle leaves the house.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deployment.inference import Decision
from deployment.parity import Parity
from reporting.run_folder import overall_scores

MISSING = "Not recorded in the report of the run."
INTENDED_USE = (
    "Research on images like those of the training data. The network is no medical device; it was"
    " not certified, and no decision on a patient may rest on it. A person who is qualified to read"
    " such images must check every result."
)
LIMITS = (
    "The scores hold for the test set above. Nothing is known about images of other devices,"
    " hospitals or populations, and the network does not notice that an image is of another kind:"
    " it answers for any picture.",
    "A threshold that was chosen on one set of images may be wrong at another prevalence.",
)


def write_model_card(
    report: Mapping[str, Any] | None,
    decision: Decision,
    rule: str,
    normalization: Mapping[str, Any],
    parity: Parity,
    networks: int = 1,
) -> str:
    """Return the card in Markdown.

    Args:
        report: report.json of the run; None if it was not tested.
        decision: Classes and rule.
        rule: Rule in words.
        normalization: Mean, std and gamma of the pixels.
        parity: Comparison of the bundle with the run.
        networks: Number of networks that answer together.
    """
    report = report or {}
    sections = {
        "Task": [*_task(decision, rule, normalization), *_ensemble(networks)],
        "Training data": _data(report),
        "Pretrained weights": _pretrained(report),
        "Leaks between the splits": _leaks(report),
        "Scores": [*_scores_of_members(report, networks), *_scores(report)],
        "Calibration": _calibration(report),
        "Subgroups": _subgroups(report),
        "Agreement with the run": _agreement(parity),
        "Intended use": [INTENDED_USE],
        "Limits": [f"- {line}" for line in (*LIMITS, *_own_limits(report))],
        "Versions": _versions(report),
    }
    parts = [f"# {_title(report)}"]
    parts += [f"## {name}\n\n" + "\n".join(lines) for name, lines in sections.items()]
    return "\n\n".join(parts) + "\n"


def _title(report: Mapping[str, Any]) -> str:
    title = str(report.get("title") or "Network without a report")
    invented = " (trained on phantom data: not for real images)" if _is_phantom(report) else ""
    return f"{title}{invented}"


def _is_phantom(report: Mapping[str, Any]) -> bool:
    return bool((report.get("data") or {}).get("phantom"))


def _task(decision: Decision, rule: str, normalization: Mapping[str, Any]) -> list[str]:
    what = "Masks" if decision.target == "mask" else "Labels"
    kind = "exclusive classes" if decision.exclusive else "independent classes"
    kind = kind if len(decision.classes) > 1 else "one class"
    pixels = ", ".join(f"{name} {_round(value)}" for name, value in normalization.items())
    return [
        f"{what} of {kind}: {', '.join(decision.classes)}.",
        f"Decision rule: {rule}.",
        f"Normalization of the pixels, which is part of the network: {pixels}.",
    ]


def _ensemble(networks: int) -> list[str]:
    if networks == 1:
        return []
    return [f"The answer is the mean of the probabilities of {networks} networks."]


def _scores_of_members(report: Mapping[str, Any], networks: int) -> list[str]:
    """Say that the scores of folds are not those of the networks together."""
    if networks == 1 or report.get("evaluated_split", "test") != "out_of_fold":
        return []
    return [
        f"These are scores of single networks, each on the images that it had not seen. The"
        f" {networks} networks together were not scored here.",
        "",
    ]


def _round(value: Any) -> str:
    numbers = value if isinstance(value, list | tuple) else [value]
    return " ".join(f"{number:.6g}" for number in numbers)


def _data(report: Mapping[str, Any]) -> list[str]:
    data = report.get("data") or {}
    if not data.get("splits"):
        return [MISSING]
    kind = "synthetic phantoms, no real images" if _is_phantom(report) else data.get("image_kind")
    named = f"Data set: {data.get('name', 'unnamed')}" + (f" ({kind})" if kind else "")
    lines = [f"{named}.", "", "| split | images | groups | with the class |", "|---|---|---|---|"]
    for split, numbers in data["splits"].items():
        shown = ", ".join(f"{name} {n}" for name, n in (numbers.get("positive") or {}).items())
        lines.append(f"| {split} | {numbers['images']} | {numbers.get('groups', '')} | {shown} |")
    patients = data.get("group_is") == "patient"
    kept = "all images of a patient" if patients else "copies of an image; patients are not known"
    lines += ["", f"A group, which is in one split only: {kept}."]
    cleaning = data.get("cleaning") or {}
    if cleaning:
        lines += ["", "Found and treated before the training:"]
        lines += [f"- {what}: {found['count']}" for what, found in cleaning.items()]
    return lines


def _pretrained(report: Mapping[str, Any]) -> list[str]:
    """Name the pretrained weights that the training began with, and their license."""
    if "pretrained_weights" not in report:
        return [MISSING]
    lines = [
        f"- {each['network']}, {each['asked']}: {each['origin']} {each['source']}, SHA-256"
        f" {each['sha256']}, license {each['license'] or 'not stated'}"
        for each in report["pretrained_weights"]
    ]
    return lines or ["None: the network was trained from scratch, or from a run that was."]


def _leaks(report: Mapping[str, Any]) -> list[str]:
    data = report.get("data") or {}
    if "leaks" not in data:
        return [MISSING]
    found = data["leaks"]
    lines = [
        f"{len(found)} kinds of leaks were found between the splits, and were allowed by the user."
        if found
        else "No image, file or group is in two splits."
    ]
    folder = data.get("folder_leaks") or {}
    if folder.get("test_images"):
        lines.append(
            f"The split of the data set's own folders would have leaked {folder['test_images']} of"
            f" {folder['of_test_images']} test images."
        )
    near = data.get("near_duplicates") or {}
    if near:
        lines.append(
            f"Nearly identical images in different splits: {near.get('pairs', 0)} pairs, with"
            f" {len(near.get('test_images') or ())} test images."
        )
    return lines


def _scores(report: Mapping[str, Any]) -> list[str]:
    scores = report.get("scores") or {}
    split = report.get("evaluated_split", "test")
    if not scores.get(split):
        return ["The network was not tested, so nothing is known about its quality."]
    names: Sequence[str] = report.get("headline_metrics") or list(overall_scores(scores[split]))
    classes = scores[split]
    lines = [f"On {split.replace('_', ' ')}, with 95 % bootstrap intervals.", ""]
    lines += _other_inference(report)
    lines += ["| class | score | value | interval | images |", "|---|---|---|---|---|"]
    for name, found in classes.items():
        lines += [_score_row(name, each, found[each]) for each in names if each in found]
    lines += ["", "Definitions:"]
    lines += [
        f"- {each}: {text}"
        for each, text in (report.get("definitions") or {}).items()
        if each in names
    ]
    caveat = (report.get("caveat") or {}).get(split)
    return [*lines, *(["", f"{caveat}."] if caveat else [])]


def _other_inference(report: Mapping[str, Any]) -> list[str]:
    """Say that the scores are those of another inference than the bundle's, if they are."""
    config = report.get("config") or {}
    plain = {"tta": "none", "average_checkpoints": 1}
    other = [
        f"{key}={config[key]}" for key, value in plain.items() if config.get(key, value) != value
    ]
    if not other:
        return []
    return [f"They were measured with {' and '.join(other)}, which the bundle does not do.", ""]


def _score_row(name: str, score: str, found: Mapping[str, Any]) -> str:
    low, high = found.get("low"), found.get("high")
    interval = "not computed" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    value = "undefined" if found.get("value") is None else f"{found['value']:.3f}"
    return f"| {name} | {score} | {value} | {interval} | {found.get('n', '')} |"


def _calibration(report: Mapping[str, Any]) -> list[str]:
    split = report.get("evaluated_split", "test")
    classes = (report.get("scores") or {}).get(split) or {}
    lines = [
        f"- {name}: {score} {found[score]['value']:.4f}"
        for name, found in classes.items()
        for score in ("ece", "calibration_error", "brier")
        if score in found and found[score].get("value") is not None
    ]
    stored = (report.get("calibration") or {}).get(split) or {}
    lines += [
        f"- {name}: " + ", ".join(f"{what} {value:.4g}" for what, value in numbers.items())
        for name, numbers in stored.items()
        if isinstance(numbers, Mapping)
    ]
    return lines or [MISSING]


def _subgroups(report: Mapping[str, Any]) -> list[str]:
    found = report.get("subgroups")
    if not isinstance(found, Mapping) or not found:
        return ["Scores of subgroups (sex, age, device, hospital) were not computed."]
    return [f"- {name}: {value}" for name, value in found.items()]


def _agreement(parity: Parity) -> list[str]:
    lines = [f"The bundle was compared with the run on {parity.images} test images."]
    if parity.pixels:
        lines.append(f"{parity.flipped_pixels} of {parity.pixels} pixels of the masks differ.")
    lines.append(
        f"{parity.flipped_images} decisions on images differ; the largest difference of two logits"
        f" is {parity.max_logit_difference:.2g}, that of two probabilities"
        f" {parity.max_probability_difference:.2g}."
    )
    return lines


def _own_limits(report: Mapping[str, Any]) -> list[str]:
    if _is_phantom(report):
        return ["The network has only seen drawn phantoms. It is an example of the format."]
    return []


def _versions(report: Mapping[str, Any]) -> list[str]:
    versions = report.get("versions") or {}
    lines = [f"- {name} {version}" for name, version in versions.items()]
    if report.get("commit"):
        lines.append(f"- commit {report['commit']}")
    if report.get("finished"):
        lines.append(f"- tested {report['finished']}")
    return lines or [MISSING]
