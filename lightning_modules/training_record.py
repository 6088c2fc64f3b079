"""Record of a training in its checkpoint: hashes of the training images, and the expected input.

With the hashes a later test refuses images that the weights were trained on, in any split or folder
and under any file name. Nothing that could identify an image or a patient is stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.base import TrainedWindow
from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.manifest.manifest import Manifest

RECORD_KEY = "training_record"  # key in a checkpoint
RECORD_VERSION = 1
RULE_PRECISION_KEY = "rule_precision"  # key of the precision in which the rule was searched
SEEN_SPLITS = ("train", "val")  # weights are trained on the first and selected on the second


@dataclass(frozen=True)
class SeenImages:
    """Test images that a network was trained on.

    Attributes:
        ids: Their names in the current data.
        n_same_file: Number of them that are identical files; the others only share an id with a
            training image.
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
    """Make the record of this fit for a checkpoint, as plain lists and values.

    Args:
        module: Module with `classes` and `normalize`.
        data: Data module with `table` and `cache`.
        parent_records: Records of the checkpoints that this training started from; their images are
            included.
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
        ),  # image size of these weights, which in a curriculum is that of their stage
        "configured_size": data.image_size.as_config,
        "cache_size": data.cache_size.as_config,  # at which images are letterboxed first
        "frame": data.frame,
        "window": data.current_window().as_state,
        "pretrained": module.pretrained_weights,
        "normalization": {name: normalize[name] for name in ("mean", "std", "gamma")},
    }


def find_seen_images(
    record: Mapping[str, Any], data: Any, splits: Sequence[str] = ("test",)
) -> SeenImages | None:
    """Find test images that a checkpoint was trained on; None if there are none.

    Args:
        record: Record of the checkpoint.
        data: Data module with `table` and `cache`.
        splits: Splits that are tested on.
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
    """Refuse a test on images that the weights were trained or selected on.

    Args:
        record: Record of the checkpoint; None if it holds none.
        data: Data module of this run.
        path: Path of the checkpoint.
        key: Configuration key that names it.
        fit: True if a training only starts from the weights; no record is then required, as for
            other pretrained weights.

    Returns:
        Text for the title of the report if such a test is allowed; None if no test image was
        trained on.

    Raises:
        UserError: Test images were trained on, and neither this run nor that of the checkpoint
            allows leaks.
    """
    if record is None:
        if fit:
            return None
        message = (
            "does not record which images it was trained on, so a test may be on the same ones"
        )
        if not data.allow_leaks:
            raise UserError(
                f"{key}={path} {message}; train it again, or set datamodule.allow_leaks=true"
            )
        return "unknown whether test images were trained on"
    out_of_fold = (
        fit and data.folds and key == "init_from"
    )  # folds are tested on their val; a resumed fit was selected on its own val before
    found = find_seen_images(record, data, ("test", "val") if out_of_fold else ("test",))
    if found is None:
        return None
    if not (data.allow_leaks or record["allow_leaks"]):
        first = ", ".join(found.ids[:3]) + (", ..." if len(found.ids) > 3 else "")
        how = f"{found.n_same_file} the same file, {len(found.ids) - found.n_same_file} by their id"
        fix = (
            "use the datamodule.seed, datamodule.split and folds of its run, or set"
            " datamodule.allow_leaks=true"
        )
        number = f"{len(found.ids)} of {found.n_images} test images were trained on or chosen by"
        raise UserError(f"{key}={path}: {number} ({how}): {first}; {fix}")
    return str(found)


def check_same_task(
    record: Mapping[str, Any] | None, module: Any, channels: int, path: Path
) -> None:
    """Refuse a checkpoint whose outputs or inputs have another meaning than those of this run.

    Args:
        record: Record of the checkpoint; None if it holds none.
        module: Module that loads the weights.
        channels: Channels of the images of this run, 1 or 3.
        path: Path of the checkpoint.

    Raises:
        UserError: The classes or their order, `exclusive`, or the number of channels differ.
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
                f"{path} was trained with {key}={wanted}, but this run has {key}={value}"
                f" ({what}); set"
                f" {key}={wanted}"
            )


def trained_image_size(checkpoint: Mapping[str, Any]) -> ImageSize | None:
    """Return the image size that a checkpoint's weights were trained on; None if not recorded."""
    states = [
        state for name, state in checkpoint.items() if name.endswith("DataModule")
    ]  # stored if the size changes within a fit
    recorded = [
        state["image_size"]
        for state in (*states, checkpoint.get(RECORD_KEY) or {})
        if "image_size" in state
    ]
    return ImageSize.from_config(recorded[0]) if recorded else None


def trained_window(checkpoint: Mapping[str, Any]) -> TrainedWindow | None:
    """Return the window that a checkpoint's weights were trained with; None if not recorded."""
    states = [state for name, state in checkpoint.items() if name.endswith("DataModule")]
    recorded = [
        state["window"]
        for state in (*states, checkpoint.get(RECORD_KEY) or {})
        if "window" in state
    ]
    return TrainedWindow.from_state(recorded[0]) if recorded else None


def _parent_hashes(parent_records: Iterable[Mapping[str, Any]], key: str) -> set[str]:
    return {value for record in parent_records for value in record.get(key, ())}


def _hashes(cache: Any, table: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Return the SHA-256 of each row's file content, and of its id, as text."""
    content = np.char.decode(np.asarray(cache.digests), "ascii")
    return content, np.array(_id_hashes(tuple(table.rows["id"].astype(str))))


@lru_cache(maxsize=4)
def _id_hashes(ids: tuple[str, ...]) -> list[str]:
    return [sha256(id.encode()).hexdigest() for id in ids]
