"""Reader and writer of cls_prob.csv: scores of a pre-classifier that identify hard examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import ManifestError
from datamodules.manifest.manifest import Manifest
from datamodules.sampling.config import SCORES_FILE

SCORE_COLUMNS = ("id", "cls_prob", "seen", "split")
OUT_OF_FOLD, HELD_OUT, IN_SAMPLE = (
    "out_of_fold",
    "held_out",
    "in_sample",
)  # values of `seen`; only for the last one was the network trained on the image
SEEN_VALUES = (OUT_OF_FOLD, HELD_OUT, IN_SAMPLE)
PRECLASSIFY_HINT = (
    "create it on this same split with experiment=preclassify_pnx folds=5 and the same"
    " datamodule.seed"
)


def write_scores(rows: pd.DataFrame, folder: Path) -> Path:
    """Write `folder/cls_prob.csv`.

    Args:
        rows: Table with `id`, `cls_prob`, `seen` (one of SEEN_VALUES) and `split`, the image's
            split in the run that uses the probability.
        folder: The run folder.
    """
    rows[list(SCORE_COLUMNS)].sort_values("id").to_csv(folder / SCORES_FILE, index=False)
    return folder / SCORES_FILE


def merge_scores(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Merge the tables of k folds, without the images that a fold's network was trained on.

    A train image gets the probability from the fold that was not trained on it, a val or test image
    the mean over folds.
    """
    table = pd.concat(parts)
    table = table[table["seen"] != IN_SAMPLE]
    return table.groupby(["id", "seen", "split"])["cls_prob"].mean().reset_index()


def read_scores(path: Path) -> pd.DataFrame:
    """Read the table from a run folder, or from the file itself.

    Raises:
        ManifestError: The file is missing or not such a table.
    """
    file = path / SCORES_FILE if path.is_dir() else path
    if not file.is_file():
        raise ManifestError(
            f"datamodule.cls_prob={path} holds no {SCORES_FILE}; name a finished run of"
            " experiment=preclassify_pnx folds=5"
        )
    try:
        table = pd.read_csv(
            file, dtype=str, keep_default_na=False
        )  # read as text, because an id may look like a number or be "nan"
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{file} cannot be read as a CSV ({' '.join(str(error).split())}); {PRECLASSIFY_HINT}"
        ) from error
    missing = [name for name in SCORE_COLUMNS if name not in table]
    if missing:
        raise ManifestError(
            f"{file} has no column {missing[0]} (it has {', '.join(map(str, table.columns))});"
            f" {PRECLASSIFY_HINT}"
        )
    _check_rows(file, table)
    return table


def _check_rows(file: Path, table: pd.DataFrame) -> None:
    """Refuse invalid values, and convert `cls_prob` to numbers in place.

    An image without a prediction has NaN.
    """
    try:
        table["cls_prob"] = table["cls_prob"].replace("", "nan").astype(np.float64)
        fit = bool(table["cls_prob"].dropna().between(0, 1).all())
    except ValueError:
        fit = False
    if not fit:
        raise ManifestError(f"{file} holds a cls_prob outside 0..1; {PRECLASSIFY_HINT}")
    unknown = table["seen"][~table["seen"].isin(SEEN_VALUES)]
    if len(unknown):
        raise ManifestError(
            f"{file} has seen='{unknown.iloc[0]}', which is not one of {', '.join(SEEN_VALUES)};"
            f" {PRECLASSIFY_HINT}"
        )
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise ManifestError(f"{file} names '{twice.iloc[0]}' twice; {PRECLASSIFY_HINT}")


def attach_scores(manifest: Manifest, source: str) -> Manifest:
    """Add the column `cls_prob`.

    Args:
        manifest: Manifest with its final split in `outer_split`.
        source: A run folder, or the file.

    Raises:
        ManifestError: Probabilities come from a network that was trained on these images, or on
            images that are val or test here.
    """
    table = read_scores(Path(source).expanduser()).set_index("id")
    ids, split = manifest.rows["id"], manifest.rows["outer_split"].to_numpy()
    seen = ids.map(table["seen"]).to_numpy()
    for wrong, what in (
        (seen == IN_SAMPLE, "come from a network that was trained on these images"),
        (
            (split == "train") & (seen == HELD_OUT),
            "come from another split: these images are train here and were held out there",
        ),
        (
            (split != "train") & (seen == OUT_OF_FOLD),
            (
                "come from another split: its folds were trained on these images, which are held"
                " out here"
            ),
        ),
    ):
        if wrong.any():
            raise ManifestError(
                f"datamodule.cls_prob={source}: {wrong.sum()} probabilities {what}"
                f" (such as '{ids[wrong.argmax()]}'); {PRECLASSIFY_HINT}"
            )
    manifest.rows["cls_prob"] = ids.map(table["cls_prob"]).to_numpy(np.float64)
    return manifest


def merge_fold_scores(parts: Sequence[Path], folder: Path) -> None:
    """Merge the cls_prob.csv of several folds into one, if every fold has one.

    Args:
        parts: Run folders of the folds; over several seeds an image's probabilities are averaged.
        folder: Folder to write to.
    """
    if all((part / SCORES_FILE).is_file() for part in parts):
        tables: list[Any] = [read_scores(part) for part in parts]
        write_scores(merge_scores(tables), folder)
