"""Reader of small YAML files of others: without aliases, and shallow."""

from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import MAX_FILE_BYTES, ManifestError
from datamodules.formats.file_content import plain_sentence, read_text

YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
MAX_YAML_DEPTH = 50


def read_yaml_mapping(path: Path, max_bytes: int = MAX_FILE_BYTES) -> dict[Any, Any]:
    """Read a small YAML file of others; aliases are refused, because a few can mean gigabytes.

    Args:
        path: The file.
        max_bytes: Largest size that is read.

    Raises:
        ManifestError: See `read_text`; or it is no YAML, has aliases, or holds no mapping.
    """
    text = read_text(path, max_bytes, "correct it")
    try:
        _check_yaml_events(text, path)
        content = yaml.load(text, YAML_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = plain_sentence(error)
        raise ManifestError(
            f"{path} is not YAML that can be read ({reason}); correct it"
        ) from error
    if not isinstance(content, dict):
        raise ManifestError(f"{path} holds no mapping of names and values; correct it")
    return content


def _check_yaml_events(text: str, path: Path) -> None:
    depth = 0
    for event in yaml.parse(text, YAML_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ManifestError(f"{path} has aliases (*name); write their values in their places")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise ManifestError(f"{path} is nested too deeply to be read as YAML; correct it")
