"""Images of a run with their split, which travel with its folder: split.csv and thumbnails.npz.

A later test on other data is compared with them: the same image, or nearly the same one, must not
be tested if the network was trained on it or chosen by it.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from datamodules.manifest.leakage import NearDuplicate, find_near_duplicates
from datamodules.manifest.manifest import SPLITS

SPLIT_FILE, THUMBNAIL_FILE = "split.csv", "thumbnails.npz"
COLUMNS = ("id", "group", "split", "sha256")


@dataclass(frozen=True)
class TrainingImages:
    """Images of a run.

    Attributes:
        rows: Table with the columns `id`, `group`, `split` and `sha256` of the file's content.
        thumbnails: uint8 `N x 32 x 32`, from which near duplicates are found.
    """

    rows: pd.DataFrame
    thumbnails: np.ndarray

    def write(self, run_dir: Path) -> None:
        """Write both files into a run folder."""
        text = io.StringIO()
        self.rows.to_csv(text, columns=list(COLUMNS), index=False, quoting=csv.QUOTE_MINIMAL)
        atomic_write(run_dir / SPLIT_FILE, text.getvalue().encode())
        packed = io.BytesIO()
        np.savez_compressed(packed, thumbnails=self.thumbnails)
        atomic_write(run_dir / THUMBNAIL_FILE, packed.getvalue())

    @classmethod
    def read(cls, run_dir: Path) -> "TrainingImages | None":
        """Read the files of a run folder; None if it has none.

        Raises:
            UserError: They are damaged, or do not belong together.
        """
        table, pictures = run_dir / SPLIT_FILE, run_dir / THUMBNAIL_FILE
        if not (table.is_file() and pictures.is_file()):
            return None
        try:
            rows = pd.read_csv(table, dtype=str, keep_default_na=False)[list(COLUMNS)]
            with np.load(pictures, allow_pickle=False) as packed:
                thumbnails = packed["thumbnails"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{table} and {pictures.name}, the images of the run, cannot be read"
                f" ({' '.join(str(error).split())}); restore them, or delete both, and near"
                " duplicates are then not searched"
            ) from error
        if len(rows) != len(thumbnails):
            raise UserError(
                f"{table} lists {len(rows)} images and {pictures.name} {len(thumbnails)}; restore"
                " them, or delete both, and near duplicates are then not searched"
            )
        return cls(rows, thumbnails)

    def near_duplicates_of(self, tested: "TrainingImages") -> list[NearDuplicate]:
        """Find tested images that nearly equal an image of train or val.

        Images that this run itself tested are left out; its own page counts their near duplicates.

        Args:
            tested: Images of a test.

        Returns:
            Pairs of a tested image (`first`) and an image of this run (`second`), the most similar
            pair of each tested image.
        """
        own_test = set(self.rows["sha256"][self.rows["split"] == "test"])
        new = ~tested.rows["sha256"].isin(own_test).to_numpy()
        learned = self.rows["split"].isin(("train", "val")).to_numpy()
        if not new.any() or not learned.any():
            return []
        # numbers as ids, because two data sets may use the same names
        ids = [str(number) for number in range(int(new.sum() + learned.sum()))]
        sides = ["a"] * int(new.sum()) + ["b"] * int(learned.sum())
        pictures = np.concatenate([tested.thumbnails[new], self.thumbnails[learned]])
        rows = pd.DataFrame({"id": ids, "split": sides})
        names = [*tested.rows["id"][new], *self.rows["id"][learned]]
        best: dict[str, NearDuplicate] = {}
        for pair in find_near_duplicates(rows, pictures):  # the most similar first
            first, second = names[int(pair.first)], names[int(pair.second)]
            named = NearDuplicate(first, second, pair.correlation, pair.turned)
            best.setdefault(first, named)
        return list(best.values())


def collect_images(data: Any, splits: Sequence[str] = SPLITS) -> TrainingImages:
    """Collect the images of some splits of a prepared data module, with its table and cache."""
    kept = data.table.rows["split"].isin(splits).to_numpy()
    digests = np.char.decode(np.asarray(data.cache.digests)[kept], "ascii").tolist()
    table = data.table.rows.loc[kept, ["id", "group", "split"]].astype(str).assign(sha256=digests)
    return TrainingImages(table.reset_index(drop=True), np.asarray(data.cache.thumbnails[kept]))
