"""Upload policy of W&B, and settings that keep everything else on the machine.

Numbers and names of methods may be uploaded; names of folders, files, images and machines may not.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAIN_WORD = re.compile(r"[\w .,+:=-]*")  # no slash, so no path
PATH_KEYS = ("paths", "runs", "preparation", "logger", "title")  # text that the user wrote
# values below these keys are names of methods
METHOD_KEYS = (
    "module",
    "trainer",
    "monitor",
    "do",
    "tta",
    "sampling",
    "augmentation",
    "objective",
    "split",
    "evaluation_size",
)
NAME_KEYS = ("ids",)  # names of images, of any type

# everything that W&B would otherwise collect; `symlink` and `console`, because links and printed
# lines name folders
PRIVATE_SETTINGS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "email": "",
    "host": "",
    "program": "",
    "program_abspath": "",
    "program_relpath": "",
    "save_code": False,
    "silent": True,
    "symlink": False,
    "username": "",
    "x_disable_meta": True,
    "x_save_requirements": False,
    "x_stats_disk_paths": (),
}


@dataclass(frozen=True)
class UploadPolicy:
    """Content that the user allows to leave the machine besides numbers.

    Attributes:
        images: Example images of the page.
        ids: Table of all evaluated images with their names and groups.
        model: Weights of the best checkpoint.
        paths: The complete configuration with its folders and files.
    """

    images: bool = False
    ids: bool = False
    model: bool = False
    paths: bool = False


def redact_config(config: dict[str, Any], upload: UploadPolicy) -> dict[str, Any]:
    """Return the configuration without content that must not leave the machine.

    Args:
        config: Configuration as plain, resolved values.
        upload: What the user allows to leave the machine.
    """
    return _redact_value(config, (), upload) or {}


def _redact_value(value: Any, key: tuple[str, ...], upload: UploadPolicy) -> Any:
    """Return the uploadable part of a value; None if there is none."""
    if any(name in key for name in NAME_KEYS) and not upload.ids:
        return None
    if isinstance(value, dict):
        found = {
            str(name): _redact_value(item, (*key, str(name)), upload)
            for name, item in value.items()
        }
        return {name: item for name, item in found.items() if item is not None} or None
    if isinstance(value, list):
        return [
            item
            for item in (_redact_value(item, key, upload) for item in value)
            if item is not None
        ] or None
    return value if not isinstance(value, str) or upload.paths or _is_choice(value, key) else None


def _is_choice(word: str, key: tuple[str, ...]) -> bool:
    if key[0] in PATH_KEYS:
        return False
    if key[-1] == "_target_" or key[-2:] == ("monitor", "name"):
        return True
    return (
        any(name in key for name in METHOD_KEYS)
        and bool(PLAIN_WORD.fullmatch(word))
        and not Path(word).exists()
    )
