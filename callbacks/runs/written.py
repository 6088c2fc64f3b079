"""YAML files that runs have left, read by the parser in C where there is one. Imports nothing heavy."""

from pathlib import Path
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def read_yaml(path: Path) -> Any:
    """What a file such as config.yaml holds.

    Raises:
        OSError, UnicodeDecodeError, yaml.YAMLError: it is missing or damaged.
    """
    return yaml.load(path.read_text(encoding="utf-8"), LOADER)
