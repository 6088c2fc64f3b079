"""Reader of a bundle: its settings, the hash of its network, and onnxruntime.

The settings are checked by hand, because this file is part of the bundle's own predict.py, which
has no pydantic; `deployment/bundle.py` holds their schema.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import UserError
from datamodules.formats.gray_levels import Window
from datamodules.image_size import ImageSize
from deployment.inference import Decision, Network, Preprocessing

MODEL_FILE, SETTINGS_FILE = "model.onnx", "bundle.json"
BUNDLE_VERSION = 1
INPUT_NAME, OUTPUT_NAME = "image", "logits"
MAX_BATCH = 64  # images; the exporter asks for a bound


@dataclass(frozen=True, kw_only=True)
class OpenedBundle:
    """A bundle that is ready to predict.

    Attributes:
        settings: Contents of bundle.json.
        network: Function from uint8 `B x C x h x w` to float32 logits.
        preprocessing: Conversion of images to its input.
        decision: Classes and rule.
    """

    settings: dict[str, Any]
    network: Network
    preprocessing: Preprocessing
    decision: Decision


def open_bundle(folder: Path, threads: int | None = None) -> OpenedBundle:
    """Open a bundle.

    Args:
        folder: Folder of the bundle.
        threads: Threads of onnxruntime; None for one per core.

    Raises:
        UserError: The folder is no bundle, a file of it was changed, or onnxruntime is not
            installed.
    """
    settings = read_settings(folder)
    try:
        return OpenedBundle(
            settings=settings,
            network=open_network(folder, settings["files"][MODEL_FILE], threads),
            preprocessing=parse_preprocessing(settings["input"]),
            decision=parse_decision(settings),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / SETTINGS_FILE} is no description of a bundle ({error!r}); write the bundle"
            " again with do=bundle"
        ) from error


def read_settings(folder: Path) -> dict[str, Any]:
    """Read bundle.json.

    Raises:
        UserError: It is missing, damaged, or of a later version.
    """
    path = folder / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        version = int(settings["bundle_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as the description of a bundle ({error}); name a folder that"
            " do=bundle wrote"
        ) from error
    if version > BUNDLE_VERSION:
        raise UserError(
            f"{path} is of version {version}, newer than {BUNDLE_VERSION}; use the predict.py"
            " beside it"
        )
    return dict(settings)


def open_network(folder: Path, digest: str, threads: int | None = None) -> Network:
    """Open the network of a bundle in onnxruntime, on the CPU.

    Args:
        folder: Folder of the bundle.
        digest: SHA-256 of its file.
        threads: Threads; None for one per core.

    Raises:
        UserError: The file is missing or was changed, or onnxruntime is not installed.
    """
    path = folder / MODEL_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); copy the whole bundle again"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(
            f"{path} is not the network that {SETTINGS_FILE} describes, its hash differs; copy the"
            " whole bundle again"
        )
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def predict_logits(canvas: np.ndarray) -> np.ndarray:
        """Convert uint8 `B x C x h x w` to float32 logits."""
        logits: np.ndarray = session.run([OUTPUT_NAME], {INPUT_NAME: canvas})[0]
        return logits

    return predict_logits


def import_onnxruntime() -> Any:
    """Import onnxruntime.

    Raises:
        UserError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "a bundle needs the package onnxruntime; install it with: pip install onnxruntime, or"
            " in a clone of medical-lightning with: uv sync --extra deploy"
        ) from error
    return onnxruntime


def parse_preprocessing(values: dict[str, Any]) -> Preprocessing:
    """Read the `input` of bundle.json."""
    return Preprocessing(
        image_size=ImageSize.from_config(values["image_size"]),
        cache_size=ImageSize.from_config(values["cache_size"]),
        channels=values["channels"],
        window=parse_window(values["window"]),
        ignore_dicom_windows=values["ignore_dicom_windows"],
        frame=values["frame"],
        max_pixels=values["max_pixels"],
    )


def parse_window(ends: Any) -> Window | None:
    """Read a window: two numbers, two numbers per channel, or None."""
    if ends is None:
        return None
    if isinstance(ends[0], list):
        return tuple((float(low), float(high)) for low, high in ends)
    return float(ends[0]), float(ends[1])


def parse_decision(settings: dict[str, Any]) -> Decision:
    """Read classes and rule of bundle.json."""
    return Decision(
        target=settings["target"],
        classes=tuple(settings["classes"]),
        exclusive=settings["exclusive"],
        rule=tuple(tuple(map(float, numbers)) for numbers in settings["rule"]),  # type: ignore[misc]
    )
