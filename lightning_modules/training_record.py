"""Record of a training in its checkpoint: hashes of the images seen, and the expected input.

The hashes let a later test refuse images that the weights were trained on, whatever split, folder
or file name they come in. Nothing that could name an image or a patient is stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.manifest.manifest import Manifest

RECORD_KEY = "training_record"  # in a checkpoint
RECORD_VERSION = 1
SEEN_SPLITS = ("train", "val")  # weights are fitted on the one and chosen by the other
WINDOW_DESCRIPTION = (  # of 16-bit pictures and DICOMs; there is no other choice yet
    "of each file: its own window, else its own range"
)


@dataclass(frozen=True)
class SeenImages:
    """Test images that a network has seen.

    Attributes:
        ids: Their names in the data at hand.
        n_same_file: How many of them are the same file, byte by byte; the others have an id that
            was trained on.
        n_images: Number of test images.
    """

    ids: list[str]
    n_same_file: int
    n_images: int

    def __str__(self) -> str:
        by_id = len(self.ids) - self.n_same_file
        return (
            f"{len(self.ids)} of {self.n_images} test images were trained"
            f" on{f', {by_id} by their id alone' if by_id else ''}"
        )


def make_record(
    module: Any, data: Any, parent_records: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Record what a checkpoint of this fit has seen, in plain lists and values.

    Args:
        module: A module with `classes` and `normalize`.
        data: A data module with `table` and `cache`.
        parent_records: Records of the checkpoints that this training started from; their images
            were seen too.
    """
    content, ids = _hashes(data.cache, data.table)
    seen = data.table.rows["split"].isin(SEEN_SPLITS).to_numpy()
    normalize = module.normalize.as_dict()
    return {
        "version": RECORD_VERSION,
        "content": sorted({*content[seen].tolist(), *_parent_hashes(parent_records, "content")}),
        "ids": sorted({*ids[seen].tolist(), *_parent_hashes(parent_records, "ids")}),
        "allow_leaks": bool(
            data.allow_leaks or any(record.get("allow_leaks") for record in parent_records)
        ),
        "classes": list(module.classes),
        "exclusive": bool(getattr(module, "exclusive", False)),
        "channels": int(data.channels),
        "image_size": (
            data.current_image_size().as_config
        ),  # of these weights, which in a curriculum is that of their stage
        "configured_size": data.image_size.as_config,
        "window": WINDOW_DESCRIPTION,
        "normalization": {name: normalize[name] for name in ("mean", "std", "gamma")},
    }


def find_seen_images(
    record: Mapping[str, Any], data: Any, splits: Sequence[str] = ("test",)
) -> SeenImages | None:
    """Compare the images to test on with those a checkpoint has seen; None if it has seen none.

    Args:
        record: Record of the checkpoint.
        data: A data module with `table` and `cache`.
        splits: Whose images are tested on.
    """
    test = data.table.rows["split"].isin(splits).to_numpy()
    content, ids = (hashes[test] for hashes in _hashes(data.cache, data.table))
    same_file = np.isin(content, list(record["content"]))
    known = same_file | np.isin(ids, list(record["ids"]))
    names = data.table.rows["id"].to_numpy()[test][known].tolist()
    return (
        SeenImages(list(map(str, names)), int(same_file.sum()), int(test.sum())) if names else None
    )


def check_not_seen(
    record: Mapping[str, Any] | None, data: Any, path: Path, key: str, fit: bool
) -> str | None:
    """Refuse a test on images that the weights were trained on or chosen by.

    Args:
        record: Record of the checkpoint; None if it holds none.
        data: The data module at hand.
        path: Path of the checkpoint.
        key: By which the user named it.
        fit: Whether the weights are only what a training starts from; as of other pretrained
            weights, nothing has to be known of them.

    Returns:
        Text for the title of the report, where such a test is allowed; None where no test image
        was seen.

    Raises:
        UserError: Test images were seen, and neither this run nor the checkpoint's own allows
            leaks.
    """
    if record is None:
        if fit:
            return None
        said = "does not record which images it was trained on, so a test may be on the same ones"
        if not data.allow_leaks:
            raise UserError(
                f"{key}={path} {said}; train it again, or set datamodule.allow_leaks=true"
            )
        return "unknown whether test images were trained on"
    out_of_fold = (
        fit and data.folds and key == "init_from"
    )  # folds are tested on their val; a resumed fit has chosen by its own before
    found = find_seen_images(record, data, ("test", "val") if out_of_fold else ("test",))
    if found is None:
        return None
    if not (data.allow_leaks or record["allow_leaks"]):
        first = ", ".join(found.ids[:3]) + (", ..." if len(found.ids) > 3 else "")
        how = f"{found.n_same_file} the same file, {len(found.ids) - found.n_same_file} by their id"
        fix = (
            "take the datamodule.seed, datamodule.split and folds of its run, or set"
            " datamodule.allow_leaks=true"
        )
        number = f"{len(found.ids)} of {found.n_images} test images were trained on or chosen by"
        raise UserError(f"{key}={path}: {number} ({how}): {first}; {fix}")
    return str(found)


def check_same_task(
    record: Mapping[str, Any] | None, module: Any, channels: int, path: Path
) -> None:
    """Refuse a checkpoint whose outputs or inputs mean something else than those of this run.

    Args:
        record: Record of the checkpoint; None if it holds none.
        module: The module that takes the weights.
        channels: Channels of the images at hand, 1 or 3.
        path: Path of the checkpoint.

    Raises:
        UserError: Other classes, another order of them, exclusive classes or not, or another number
            of channels.
    """
    if record is None:
        return
    here = {
        "module.classes": list(module.classes),
        "module.exclusive": bool(getattr(module, "exclusive", False)),
        "datamodule.channels": channels,
    }
    for key, value in here.items():
        there = record[key.rpartition(".")[2]]
        if there != value:
            what = (
                "the same classes in another order"
                if isinstance(value, list) and sorted(there) == sorted(value)
                else "another value"
            )
            wanted = str(there).lower() if isinstance(there, bool) else str(there).replace("'", "")
            raise UserError(
                f"{path} was trained with {key}={wanted}, and here {key}={value} ({what}); set"
                f" {key}={wanted}"
            )


def trained_image_size(checkpoint: Mapping[str, Any]) -> ImageSize | None:
    """Return the image size that a checkpoint's weights were trained on; None if not recorded."""
    states = [
        state for name, state in checkpoint.items() if name.endswith("DataModule")
    ]  # written where the size changes within a fit
    recorded = [
        state["image_size"]
        for state in (*states, checkpoint.get(RECORD_KEY) or {})
        if "image_size" in state
    ]
    return ImageSize.from_config(recorded[0]) if recorded else None


def _parent_hashes(parent_records: Iterable[Mapping[str, Any]], key: str) -> set[str]:
    return {value for record in parent_records for value in record.get(key, ())}


def _hashes(cache: Any, table: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Return the SHA-256 of each row's file content, and of its id, as text."""
    content = np.char.decode(np.asarray(cache.digests), "ascii")
    return content, np.array(_id_hashes(tuple(table.rows["id"].astype(str))))


@lru_cache(maxsize=4)
def _id_hashes(ids: tuple[str, ...]) -> list[str]:
    return [sha256(id.encode()).hexdigest() for id in ids]
