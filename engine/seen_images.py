"""Refusal of tests on images that the network was trained on."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from engine.ensemble import FoldEnsemble
from engine.resume import find_resume_checkpoint
from engine.run_references import find_start_checkpoint, resolve_checkpoint
from lightning_modules import checkpoint_io
from lightning_modules.checkpoint_schema import check_record
from lightning_modules.training_record import RECORD_KEY, check_not_seen, find_seen_images
from reporting.training_images import TrainingImages, collect_images

SIZE_KEYS = ("image_size", "datamodule.image_size")
Record = tuple[
    str, Path, dict[str, Any] | None
]  # key that names a checkpoint, its file, and its training record


def earlier_records(cfg: DictConfig, ensemble: FoldEnsemble | None = None) -> list[Record]:
    """Load the training records of the checkpoints that this run starts from or tests.

    Args:
        cfg: Configuration of the run.
        ensemble: Networks that are tested together.
    """
    if ensemble is not None:
        paths = [(ensemble.key, path) for path in ensemble.checkpoints]
    else:
        own = find_resume_checkpoint(
            cfg
        )  # it holds the records of the checkpoints that it started from
        found = {
            "ckpt_path": find_start_checkpoint(cfg),
            "init_from": None if own else resolve_checkpoint(cfg, "init_from"),
        }
        paths = [(key, path) for key, path in found.items() if path is not None]
    return [
        (key, path, check_record(checkpoint_io.read_metadata(path), path)) for key, path in paths
    ]


def check_test_images(
    cfg: DictConfig, data: ManifestDataModule, records: list[Record]
) -> str | None:
    """Refuse a test on training images, before anything is trained or predicted.

    Args:
        cfg: Configuration of the run.
        data: Data module that is prepared.
        records: See `earlier_records`.

    Returns:
        A note for the title of the page, if leaks are allowed; None if there is nothing to note.

    Raises:
        UserError: It is refused; the message names the checkpoint and the images.
    """
    if "test" not in cfg.do:
        return None
    notes = [
        check_not_seen(record, data, path, key, "fit" in cfg.do) for key, path, record in records
    ]
    if "fit" not in cfg.do:
        notes += [_check_near_duplicates(data, path, key) for key, path, _ in records]
    notes += ["leaks between the splits are allowed"] if data.leaks else []
    return next((note for note in notes if note), None)


def _check_near_duplicates(data: ManifestDataModule, path: Path, key: str) -> str | None:
    """Refuse a test on images that nearly equal those that a run was trained on.

    Args:
        data: Data module that is prepared.
        path: Path of the checkpoint; the images of its run lie in its run folder.
        key: Configuration key that names it.

    Returns:
        Text for the title of the report if such a test is allowed; None if there are none.

    Raises:
        UserError: There are near duplicates, and `datamodule.allow_leaks` is false.
    """
    learned = TrainingImages.read(path.parent.parent)
    if learned is None:
        return None
    tested = collect_images(data, ("test",))
    found = learned.near_duplicates_of(tested)
    if not found:
        return None
    number = f"{len(found)} of {len(tested.rows)} test images"
    if data.allow_leaks:
        return f"{number} nearly equal images that were trained on"
    first = ", ".join(f"'{pair.first}' ({pair.second}, {pair.turned})" for pair in found[:3])
    raise UserError(
        f"{key}={path}: {number} nearly equal an image that was trained on or chosen by:"
        f" {first}{', ...' if len(found) > 3 else ''}; take them out of the test, or set"
        " datamodule.allow_leaks=true"
    )


def is_trained_on_val(data: ManifestDataModule, record: dict[str, Any] | None) -> bool:
    """Return True if the val images are those by which a checkpoint was chosen."""
    if record is None or not data.can_validate:
        return False
    seen = find_seen_images(record, data, ("val",))
    return seen is not None and len(seen.ids) == seen.n_images


def image_size_is_given(data: ManifestDataModule, path: Path) -> bool:
    """Return True if the user set an image size other than that of the training.

    It then takes precedence over the checkpoint's. The initial size of the training does not count,
    because the command of a curriculum has it too, and its weights have the size of their stage.

    Args:
        data: Data module with the image size of this command.
        path: Path of the checkpoint.
    """
    record = checkpoint_io.read_metadata(path).get(RECORD_KEY) or {}
    written = HydraConfig.initialized() and any(
        word.lstrip("+").split("=", 1)[0] in SIZE_KEYS for word in HydraConfig.get().overrides.task
    )
    return written and data.image_size.as_config != record.get(
        "configured_size", data.image_size.as_config
    )
