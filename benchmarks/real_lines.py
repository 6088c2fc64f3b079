"""Result lines of `real_images.py`: written once a run, and read back as evidence."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.evidence import ClassificationEvidence, Evidence, SegmentationEvidence

MASK_RULE = (128.0, 0.0, 128.0)  # byte 128 is a probability of .5; masks are stored, not logits


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file; none if it is missing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def finished(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """Return the line that has the values of a key, or None."""
    for line in read_lines(path):
        if all(line.get(name) == value for name, value in key.items()):
            return line
    return None


def write_line(path: Path, line: dict[str, Any]) -> None:
    """Append one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def compact(evidence: Evidence) -> dict[str, Any]:
    """Return what the scores at the rule in force need.

    For masks these are, for every image, id, group and the pixels tp, fp, fn, tn; for labels id,
    group, logit and label.
    """
    found: dict[str, Any] = {
        "kind": evidence.kind,
        "class": evidence.classes[0],
        "group_is": evidence.group_is,
        "rule": [float(number) for number in evidence.rule[0, 0]],
    }
    names = zip(evidence.ids.tolist(), evidence.groups.tolist(), strict=True)
    if isinstance(evidence, ClassificationEvidence):
        own = [
            [round(float(logit), 4), int(label)]
            for logit, label in zip(evidence.logits[:, 0], evidence.labels[:, 0], strict=True)
        ]
    else:
        assert isinstance(evidence, SegmentationEvidence)
        found["grid"] = evidence.grid
        own = [
            masked_pixels(*image)
            for image in zip(evidence.counts[:, 0], evidence.rule[:, 0], strict=True)
        ]
    return found | {"images": [[*name, *values] for name, values in zip(names, own, strict=True)]}


def masked_pixels(counts: np.ndarray, rule: np.ndarray) -> list[int]:
    """Return tp, fp, fn and tn of one image at a rule (top, min_area, bottom).

    Args:
        counts: Pixels of each byte outside and inside the true mask, `2 x 256`.
        rule: The numbers of the rule.
    """
    top, min_area, bottom = rule
    shown = counts[:, int(np.ceil(top)) :].sum() >= min_area * counts.sum()
    (fp, tp) = counts[:, int(np.ceil(bottom)) :].sum(1) if shown else (0, 0)
    tn, fn = counts.sum(1) - (fp, tp)
    return [int(tp), int(fp), int(fn), int(tn)]


def restore(line: dict[str, Any]) -> Evidence:
    """Return the evidence of one split of a line; of masks only their overlap is known."""
    images = line["images"]
    common: dict[str, Any] = {
        "ids": np.array([image[0] for image in images]),
        "groups": np.array([image[1] for image in images]),
        "classes": (line["class"],),
        "group_is": line["group_is"],
    }
    if line["kind"] == "label":
        return ClassificationEvidence(
            **common,
            rule=np.tile(np.array(line["rule"]), (len(images), 1, 1)),
            logits=np.array([[image[2]] for image in images], np.float32),
            labels=np.array([[image[3]] for image in images], np.uint8),
        )
    counts = np.zeros((len(images), 1, 2, 256), np.int32)
    pixels = np.array([image[2:] for image in images])
    counts[:, 0, 1, 255], counts[:, 0, 0, 255] = pixels[:, 0], pixels[:, 1]
    counts[:, 0, 1, 0], counts[:, 0, 0, 0] = pixels[:, 2], pixels[:, 3]
    return SegmentationEvidence(
        **common,
        rule=np.tile(np.array(MASK_RULE), (len(images), 1, 1)),
        counts=counts,
        grid=line["grid"],
    )
