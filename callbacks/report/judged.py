"""What is judged besides the splits: test without its copies, and one decision a patient."""

from collections.abc import Mapping

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.label_evidence import LabelEvidence


def without_lookalikes(evidence: Mapping[str, Evidence], ids: set[str]) -> dict[str, Evidence]:
    """Test without the images that stand, nearly the same, in train or val too: what was learned by heart does not count there."""
    if "test" not in evidence or not ids:
        return {}
    rest = evidence["test"].without(ids)
    return {"test_without_lookalikes": rest} if len(rest) else {}


def by_patient(evidence: Mapping[str, Evidence], judged: str) -> dict[str, Evidence]:
    """The judged split once more with one decision a patient, where labels are judged and some patient has several images."""
    seen = evidence[judged]
    if (
        not isinstance(seen, LabelEvidence)
        or seen.exclusive
        or seen.group_is != "patient"
        or len(np.unique(seen.groups)) == len(seen)
    ):
        return {}
    return {f"{judged}_by_patient": seen.by_group()}
