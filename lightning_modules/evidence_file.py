"""Evidence on disk: one .npz with its kind and version."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.refusal import UserError
from datamodules.whole_file import atomic_write
from lightning_modules.evidence import Evidence
from lightning_modules.label_evidence import ClassificationEvidence
from lightning_modules.mask_evidence import SegmentationEvidence

EVIDENCE_VERSION = 2
KINDS: dict[str, type[Evidence]] = {
    kind.kind: kind for kind in (SegmentationEvidence, ClassificationEvidence)
}


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Write evidence, all its arrays and values, to an .npz file."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(evidence).items()}
    file = io.BytesIO()
    np.savez_compressed(file, version=EVIDENCE_VERSION, kind=evidence.kind, **arrays)
    atomic_write(path, file.getvalue())


def read_evidence(path: Path) -> Evidence:
    """Read what `write_evidence` wrote; files of version 1 hold masks.

    Raises:
        Refusal: missing, damaged or of a later version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored: dict[str, Any] = {
                name: array if array.ndim else array.item() for name, array in file.items()
            }
        version, kind = int(stored.pop("version")), KINDS[stored.pop("kind", "mask")]
        stored["classes"] = tuple(stored["classes"].tolist())
        evidence = kind(**stored) if version <= EVIDENCE_VERSION else None
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path} is not evidence that can be read ({error}); evaluate the run again with"
            " do=[test]"
        ) from error
    if evidence is None:
        raise UserError(
            f"{path} is evidence of version {version}, newer than {EVIDENCE_VERSION}; update this repository"
            " to read it"
        )
    return evidence
