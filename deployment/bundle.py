"""Bundle of a trained network: everything to use it without this repository and without PyTorch."""

import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datamodules.errors import UserError
from datamodules.formats.file_hash import hash_file
from deployment.bundle_reader import (
    BUNDLE_VERSION,
    MAX_BATCH,
    MODEL_FILE,
    SETTINGS_FILE,
    import_onnxruntime,
)
from deployment.model_card import write_model_card
from deployment.onnx_export import export_onnx
from deployment.parity import Parity, TestImage, measure_parity
from deployment.predictor import Predictor
from deployment.result_files import describe_rule, name_model
from deployment.standalone import assemble
from deployment.trained_network import TrainedNetwork
from reporting.report_data import package_versions
from reporting.run_folder import RunFolder

BUNDLE_FOLDER = "bundle"
PREDICT_FILE, CARD_FILE, PARITY_FILE = "predict.py", "model_card.md", "parity.json"
PACKAGES = ("medical-lightning", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")

STRICT = ConfigDict(extra="forbid", frozen=True)
Side = int | tuple[int, int]
Range = tuple[float, float]


class BundleInput(BaseModel):
    """Conversion of an image to the network's input."""

    model_config = STRICT
    image_size: Side = Field(description="Canvas in pixels: the side, or [height, width].")
    cache_size: Side = Field(
        description="Canvas on which the levels are placed before they are displayed in 8 bits; it"
        " is then resized to image_size."
    )
    channels: int = Field(ge=1, description="1 for gray, 3 for RGB.")
    window: Range | list[Range] | None = Field(
        description="Values displayed black and white, of images of more than 8 bits, or one window"
        " per channel; null if the network was trained on images of 8 bits."
    )
    ignore_dicom_windows: bool = Field(description="True if the window replaces those of DICOMs.")
    frame: int | Literal["channels"] | None = Field(description="Frame of files of several.")
    max_pixels: int = Field(ge=1, description="Largest image that is decoded.")
    max_batch: int = Field(ge=1, description="Largest batch that the network takes.")
    letterbox: str = Field(description="How an image is placed on the canvas.")
    dtype: Literal["uint8"] = Field(description="Type of the network's input B x C x H x W.")


class BundleSettings(BaseModel):
    """Contents of bundle.json."""

    model_config = STRICT
    bundle_version: int = Field(description="Version of this format.")
    title: str = Field(description="Title of the run; it tells if the data are phantoms.")
    run: str = Field(description="Title of the run.")
    created: str = Field(description="Time in ISO 8601.")
    phantom: bool | None = Field(
        description="True if the network was trained on synthetic images; null if not recorded."
    )
    target: Literal["mask", "label"] = Field(description="What the network predicts.")
    classes: list[str] = Field(description="Names of the classes, in channel order.")
    exclusive: bool = Field(description="True if classes exclude each other.")
    rule: list[tuple[float, float, float]] = Field(
        description="Three numbers per class. Masks: (top, min_area, bottom), where top and bottom"
        " are bytes clamp((logit + 16) * 8, 0, 255). Labels: (threshold, temperature, kept)."
    )
    rule_in_words: str
    input: BundleInput
    normalization: dict[str, Any] = Field(description="Part of the network; for information.")
    networks: int = Field(ge=1, description="Number of networks; several are an ensemble.")
    checkpoints: list[str] = Field(description="SHA-256 of each checkpoint.")
    files: dict[str, str] = Field(description="SHA-256 of files of the bundle.")
    versions: dict[str, str] = Field(description="Versions of packages.")


def bundle_schema() -> dict[str, Any]:
    """Return the JSON schema of bundle.json, which the documentation publishes."""
    schema = BundleSettings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_bundle(trained: TrainedNetwork, images: Iterable[TestImage]) -> tuple[Path, Parity]:
    """Write the bundle of a run into its folder, and compare it with the run.

    It is written under another name and renamed at the end, so that a folder `bundle` always holds
    one that passed; an earlier one is replaced only then.

    Args:
        trained: Network of the run.
        images: Images of its test set.

    Returns:
        Folder of the bundle, and the comparison.

    Raises:
        UserError: The network cannot be exported, or the bundle decides differently.
    """
    import_onnxruntime()
    folder = trained.folder / BUNDLE_FOLDER
    unfinished = trained.folder / f".{BUNDLE_FOLDER}.{os.getpid()}"
    try:
        unfinished.mkdir()
        parity = _fill(trained, images, unfinished)
        _publish(unfinished, folder)
    except OSError as error:
        raise UserError(
            f"{unfinished} cannot be written ({error.strerror}); make room, or allow writing there"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder, parity


def _fill(trained: TrainedNetwork, images: Iterable[TestImage], folder: Path) -> Parity:
    report = _read_report(trained)
    export_onnx(trained, folder / MODEL_FILE)
    text = assemble(package_versions("medical-lightning"))
    (folder / PREDICT_FILE).write_text(text, encoding="utf-8")
    settings = make_settings(trained, report, hash_file(folder / MODEL_FILE))
    _write_json(folder / SETTINGS_FILE, settings.model_dump(mode="json"))
    parity = measure_parity(trained, Predictor.from_bundle(folder), images)
    target = trained.decision.target
    if failure := parity.failure(target):
        first = f", the first in '{parity.examples[0]}'" if parity.examples else ""
        raise UserError(
            f"the bundle of {trained.folder} does not decide as the run: {failure}{first}; it is"
            " not written. Use the network from Python with Predictor.from_run, and report this"
        )
    found = parity.as_dict(target) | {"versions": settings.versions, "torch": "fp32 on the CPU"}
    _write_json(folder / PARITY_FILE, found)
    card = write_model_card(
        report,
        trained.decision,
        settings.rule_in_words,
        settings.normalization,
        parity,
        len(trained.checkpoints),
    )
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return parity


def _read_report(trained: TrainedNetwork) -> dict[str, Any] | None:
    """Return report.json of a run; that of folds is completed by the data of the first fold."""
    run = RunFolder(trained.folder)
    if not run.has_report:
        return None
    first = RunFolder(trained.checkpoints[0].parent.parent)
    if (run.report.get("data") or {}).get("splits") or not first.has_report:
        return run.report
    return run.report | {"data": first.report.get("data")}


def make_settings(
    trained: TrainedNetwork, report: Mapping[str, Any] | None, digest: str
) -> BundleSettings:
    """Make the contents of bundle.json.

    Args:
        trained: Network of a run.
        report: report.json of the run; None if it was not tested.
        digest: SHA-256 of the exported network.
    """
    given, decision = trained.preprocessing, trained.decision
    data = (report or {}).get("data") or {}
    phantom = bool(data["phantom"]) if "phantom" in data else None
    run = str(trained.config.get("title") or trained.folder.name)
    versions = {name: package_versions(name) for name in PACKAGES}
    normalization = trained.module.normalize.as_dict()
    return BundleSettings(
        bundle_version=BUNDLE_VERSION,
        title=name_model(run, phantom),
        run=run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        phantom=phantom,
        target=decision.target,
        classes=list(decision.classes),
        exclusive=decision.exclusive,
        rule=list(decision.rule),
        rule_in_words=describe_rule(decision),
        input=BundleInput(
            image_size=_side(given.image_size.as_config),
            cache_size=_side(given.cache_size.as_config),
            channels=given.channels,
            window=given.window,  # type: ignore[arg-type]
            ignore_dicom_windows=given.ignore_dicom_windows,
            frame=given.frame,
            max_pixels=given.max_pixels,
            max_batch=MAX_BATCH,
            letterbox="centered, as large as possible, black around it",
            dtype="uint8",
        ),
        normalization={name: normalization[name] for name in ("mean", "std", "gamma")},
        networks=len(trained.checkpoints),
        checkpoints=[hash_file(path) for path in trained.checkpoints],
        files={MODEL_FILE: digest},
        versions={"python": platform.python_version(), **versions},
    )


def _side(size: int | list[int]) -> Side:
    return size if isinstance(size, int) else (size[0], size[1])


def _publish(unfinished: Path, folder: Path) -> None:
    """Put a finished bundle in the place of an earlier one."""
    earlier = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(earlier)
    unfinished.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def _write_json(path: Path, values: Any) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
