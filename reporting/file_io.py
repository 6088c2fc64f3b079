"""Read YAML and write JSON of run folders. Imports nothing heavy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datamodules.formats.atomic_write import atomic_write

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def read_yaml(path: Path) -> Any:
    """Load a YAML file such as config.yaml.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError: The file is missing or damaged.
    """
    return yaml.load(path.read_text(encoding="utf-8"), LOADER)


def write_json(found: dict[str, Any], path: Path) -> None:
    """Write valid JSON; numbers that are not finite become null."""
    atomic_write(path, json.dumps(_to_plain(found), indent=2, ensure_ascii=False).encode())


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
