"""Further evaluations: test without near duplicates, and one decision per patient."""

from collections.abc import Mapping

import numpy as np

from evaluation.evidence import ClassificationEvidence, Evidence


def drop_near_duplicates(evidence: Mapping[str, Evidence], ids: set[str]) -> dict[str, Evidence]:
    """Return test without the images `ids`, which are near duplicates of train or val images.

    Empty if there is no test split, no such image, or no other image.
    """
    if "test" not in evidence or not ids:
        return {}
    rest = evidence["test"].exclude(ids)
    return {"test_without_lookalikes": rest} if len(rest) else {}


def per_patient(evidence: Mapping[str, Evidence], evaluated_split: str) -> dict[str, Evidence]:
    """Return the evaluated split with one decision per patient.

    Empty unless labels are not exclusive, groups are patients and some patient has several images.
    """
    labels = evidence[evaluated_split]
    if (
        not isinstance(labels, ClassificationEvidence)
        or labels.exclusive
        or labels.group_is != "patient"
        or len(np.unique(labels.groups)) == len(labels)
    ):
        return {}
    return {f"{evaluated_split}_by_patient": labels.by_group()}
