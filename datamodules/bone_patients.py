"""Bone scans that belong together: the views of a patient, and patients with several numbers."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from datamodules.cleaning import CleaningReport
from datamodules.refusal import UserError
from datamodules.strata import NO_LESION


def check_patients(identical: Sequence[Sequence[int]]) -> list[list[str]]:
    """Check the lists of patient numbers that are one patient, and return them as strings.

    Raises:
        Refusal: something else than lists of two or more numbers.
    """
    for together in identical:
        numbers = (
            list(together)
            if isinstance(together, Sequence) and not isinstance(together, str)
            else []
        )
        if len(numbers) < 2 or not all(isinstance(number, int) for number in numbers):
            raise UserError(
                f"datamodule.identical holds {together}, which is no list of two patient numbers or"
                " more; write [[828, 2244], ...], or []"
            )
    return [[str(number) for number in together] for together in identical]


def join_views(numbers: Iterable[str], together: Iterable[Sequence[str]]) -> dict[str, str]:
    """Map each patient number to its group, which for most is the number itself.

    Numbers that any list in `together` connects share the lowest of theirs.
    """
    groups: list[set[str]] = []
    for connected in map(set, together):
        for other in [group for group in groups if group & connected]:
            connected |= other
            groups.remove(other)
        groups.append(connected)
    present = set(numbers)
    group_of = {number: number for number in present}
    for group in groups:
        members = group & present
        group_of |= dict.fromkeys(
            members, min(members, key=lambda number: (len(number), number), default="")
        )
    return group_of


def find_copies(rows: pd.DataFrame, cleaning: CleaningReport) -> list[list[str]]:
    """Find patient numbers whose scans are the same file, byte by byte; reads only equal sizes.

    Args:
        rows: With `id`, `image` and `number`.
        cleaning: Takes the count of copies.
    """
    size = rows["image"].map(lambda path: Path(path).stat().st_size)
    alike = rows[size.groupby(size).transform("size") > 1]
    digest = alike["image"].map(lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest())
    twice = digest.duplicated(keep=False)
    found = []
    for _, same in alike[twice].groupby(digest[twice], sort=False):
        numbers = same["number"].drop_duplicates()
        if len(numbers) > 1:
            found.append(numbers.tolist())
            for id in same["id"].iloc[1:]:
                cleaning.count(
                    "scan that is a copy of another patient's: they count as one patient", id
                )
    return found


def patient_strata(rows: pd.DataFrame) -> pd.Series:
    """Return per row which views of its group are abnormal, such as `1_ANT_POST`.

    A split that is stratified by it has its share of each kind.

    Args:
        rows: With `group`, `view` and `label`.
    """
    abnormal = (
        rows[rows["label"] == 1]
        .groupby("group")["view"]
        .agg(lambda views: "_".join(["1", *sorted(set(views))]))
    )
    return rows["group"].map(abnormal).fillna(NO_LESION)
