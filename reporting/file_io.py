"""Read YAML and write JSON of run folders. Imports nothing heavy."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from datamodules.formats.atomic_write import atomic_write
from datamodules.formats.file_content import read_text
from datamodules.formats.yaml_content import YAML_LOADER


def read_yaml(path: Path) -> Any:
    """Load a YAML file such as config.yaml.

    Raises:
        UserError: The file is missing, no file, or too large.
        yaml.YAMLError, RecursionError: It is damaged.
    """
    return yaml.load(read_text(path, fix="restore it"), YAML_LOADER)


def write_json(found: dict[str, Any], path: Path) -> None:
    """Write valid JSON; numbers that are not finite become null."""
    atomic_write(path, json.dumps(to_plain(found), indent=2, ensure_ascii=False).encode())


def to_plain(value: Any) -> Any:
    """Convert nested values to JSON's own types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    item = getattr(value, "item", None)  # of a number of NumPy or PyTorch
    value = item() if callable(item) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
