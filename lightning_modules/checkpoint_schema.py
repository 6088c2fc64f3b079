"""Checks of a checkpoint before its content is used: the file, its keys, and its numbers.

A checkpoint may be damaged, of another program, or made to do harm. PyTorch reads damaged weights
without a word: it does not compare the checksums that each part of the file has.
"""

import stat
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, StrictBool, StrictStr, TypeAdapter, with_config
from torch import Tensor
from typing_extensions import TypedDict

from datamodules.errors import UserError
from datamodules.formats.file_stamp import FileStamp, file_stamp
from datamodules.formats.schema import parse_by_schema

EXTRA_STATE = "_extra_state"  # end of the names of what a module keeps beside its tensors
MAX_SIZE = 2**31  # far above any size, count or step
BLOCK = 2**20  # bytes that are compared at once

Count = Annotated[int, Field(strict=True, ge=0, lt=2**62)]
Size = Annotated[int, Field(strict=True, ge=1, lt=MAX_SIZE)]
Sides = Size | Annotated[list[Size], Field(min_length=2, max_length=2)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Ends = Annotated[list[Finite], Field(min_length=2, max_length=2)]
KEEP = ConfigDict(extra="allow", arbitrary_types_allowed=True)


@with_config(KEEP)
class RecordedWindow(TypedDict):
    """Window of a training; see `datamodules.base.TrainedWindow`."""

    range: Ends | list[Ends] | None
    given: StrictBool


@with_config(KEEP)
class RecordedNormalization(TypedDict, total=False):
    """Normalization of a training."""

    mean: list[Finite]
    std: list[Finite]
    gamma: Finite


@with_config(KEEP)
class TrainingRecordState(TypedDict, total=False):
    """Record of a training; see `lightning_modules.training_record.make_record`."""

    version: Annotated[int, Field(strict=True, ge=1, le=1)]
    content: list[StrictStr]
    ids: list[StrictStr]
    allow_leaks: StrictBool
    classes: Annotated[list[StrictStr], Field(min_length=1)]
    exclusive: StrictBool
    channels: Size
    image_size: Sides
    configured_size: Sides
    cache_size: Sides
    frame: Count | Literal["channels"] | None
    window: RecordedWindow
    pretrained: list[dict[str, Any]]
    normalization: RecordedNormalization


@with_config(KEEP)
class CheckpointState(TypedDict, total=False):
    """Content of a checkpoint; further keys are those of data modules and callbacks."""

    state_dict: dict[StrictStr, Any]
    epoch: Count
    global_step: Count
    loops: dict[StrictStr, Any] | None
    callbacks: dict[StrictStr, Any]
    optimizer_states: list[dict[str, Any]]
    lr_schedulers: list[dict[str, Any]]
    random_states: list[dict[str, Any]] | None
    settings: dict[StrictStr, Any]
    training_record: TrainingRecordState
    rule_precision: StrictStr | None


SCHEMA: TypeAdapter[Any] = TypeAdapter(CheckpointState)
FIT_KEYS = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")
RECORD_KEYS = ("content", "ids", "allow_leaks", "classes", "exclusive", "channels")


def find_damage(path: Path) -> str:
    """Return why a file of tensors cannot be used: compressed, damaged by its checksums, no file.

    All bytes are read once for each state of the file.

    Returns:
        The reason; empty if nothing is wrong, or if it is no zip, which its reader judges.
    """
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror).lower()
    if not stat.S_ISREG(status.st_mode):
        return "is a directory" if stat.S_ISDIR(status.st_mode) else "it is no file"
    return _damage(path, file_stamp(path))


@lru_cache(maxsize=64)
def _damage(path: Path, stamp: FileStamp) -> str:
    """Return what is wrong with a file; empty if nothing is, or if it is of torch's older format.

    The stamp is that of the file, so that another file is read again.
    """
    if not stamp.size:
        return "the file is empty"
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return ""  # the reader says what it is
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                return "a part of it occurs twice"
            packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if packed or sum(entry.file_size for entry in entries) > stamp.size:
                return "its parts are compressed, as torch.save never does"
            for entry in entries:
                with archive.open(entry) as part:
                    while part.read(BLOCK):  # compares the checksum at the end
                        pass
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        NotImplementedError,
        EOFError,
    ) as e:
        known = isinstance(e, zipfile.BadZipFile) and "CRC" in str(e)
        return (
            "a part of it differs from its checksum"
            if known
            else "the file is damaged or incomplete"
        )
    return ""


def check_content(content: Any, path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, checked by its schema.

    Args:
        content: What torch.load returned.
        path: The file, for messages.

    Raises:
        UserError: It is no checkpoint, or a value of it has another type.
    """
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(
            f"{path} holds no state_dict, so it is not a checkpoint of this repository; name"
            " another file"
        )
    checked = dict(
        parse_by_schema(SCHEMA, content, str(path), "it is damaged, name another checkpoint")
    )
    for name, value in checked["state_dict"].items():
        if not name.endswith(EXTRA_STATE) and not isinstance(value, Tensor):
            raise UserError(
                f"{path} has a {type(value).__name__} in place of the weights '{name}'; it is"
                " damaged, name another checkpoint"
            )
    return checked


def is_finite(value: Tensor) -> bool:
    """Return True if no number is NaN or infinite; True for tensors of other types than floats.

    The sum, which is ten times as fast as a look at each number, is finite only if all are; it may
    also exceed the range of float32 though all are finite.
    """
    if not value.is_floating_point():
        return True
    total = value.sum(dtype=torch.promote_types(value.dtype, torch.float32))
    return bool(total.isfinite()) or bool(value.isfinite().all())


def check_numbers(tensors: Mapping[str, Any], path: Path) -> None:
    """Refuse weights that are not finite, or that no network here can have.

    Raises:
        UserError: The message names the first such tensor.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            continue
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            kind = "has no values" if value.is_meta else f"is {value.layout}, {value.dtype}"
            raise UserError(
                f"{path}: the tensor '{name}' {kind}, which no network here has; name another"
                " checkpoint"
            )
        # an expanded tensor would be read as many times as it pretends to have values
        stored = value.untyped_storage().nbytes() // max(1, value.element_size())
        if value.numel() > stored:
            raise UserError(
                f"{path}: the tensor '{name}' says that it has {value.numel():,} numbers, and holds"
                f" {stored:,}; name another checkpoint"
            )
        if not is_finite(value):
            raise UserError(
                f"{path}: the tensor '{name}' holds numbers that are not finite (NaN or infinite),"
                " so its training has failed, or the file was changed; name an earlier checkpoint"
            )
    for name, value in tensors.items():
        if (
            name.endswith("normalize.std")
            and isinstance(value, Tensor)
            and bool((value <= 0).any())
        ):
            raise UserError(
                f"{path}: the tensor '{name}' holds a standard deviation of 0 or less; it is"
                " damaged, name another checkpoint"
            )


def check_complete(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint that a fit cannot continue from, such as one of weights alone.

    Raises:
        UserError: A part of the state is missing, or the optimizer's has numbers that are not
            finite.
    """
    missing = [key for key in FIT_KEYS if checkpoint.get(key) is None]
    empty = [key for key in ("loops", "optimizer_states") if not checkpoint.get(key)]
    if missing or empty:
        raise UserError(
            f"{path} has no {(missing or empty)[0]}, so a fit cannot continue from it; start from"
            f" its weights with init_from={path}"
        )
    for number, state in enumerate(checkpoint["optimizer_states"]):
        groups = [each for each in state.get("param_groups") or () if isinstance(each, dict)]
        keeps = any("betas" in group or group.get("momentum") for group in groups)
        if not groups or (keeps and checkpoint["global_step"] and not state.get("state")):
            lacking = "moments" if groups else "param_groups"
            raise UserError(
                f"{path} has an optimizer without {lacking}, so a fit cannot continue from it;"
                f" start from its weights with init_from={path}"
            )
        moments = state.get("state")
        for index, values in moments.items() if isinstance(moments, dict) else ():
            if isinstance(values, dict):
                named = {f"optimizer_states.{number}.{index}.{k}": v for k, v in values.items()}
                check_numbers(named, path)


def check_record(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the record of the training of a checkpoint; None if it holds none.

    Raises:
        UserError: A key is missing that a test needs to be honest.
    """
    record = checkpoint.get("training_record")
    missing = [] if record is None else [key for key in RECORD_KEYS if key not in record]
    if missing:
        raise UserError(
            f"{path} has a training_record without '{missing[0]}', so it cannot be told what it was"
            " trained on; name another checkpoint"
        )
    return record
