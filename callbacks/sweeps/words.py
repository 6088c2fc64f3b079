"""The words of a multirun's trials: what differs between them, and how keys and values are said to people. Imports nothing heavy."""

from collections.abc import Iterable
from math import isfinite
from pathlib import Path

import yaml

from callbacks.runs.written import read_yaml

SWEEP_OVERRIDE_PREFIXES = ("resume", "callbacks.pruning", "hydra.")  # words that the sweep adds
REPLICATE_KEYS = (
    "fold",
    "seed",
)  # which draw, not how to train: they make no other arm, and the best of them is the luckiest


def load_trial_overrides(sweep_dir: Path) -> dict[str, list[str]]:
    """Trial -> all its words, in the order of their numbers; none of one whose file was cut off."""
    paths = sorted(
        sweep_dir.glob("*/.hydra/overrides.yaml"),
        key=lambda path: (not path.parents[1].name.isdecimal(), path.parents[1].name.zfill(9)),
    )
    return {path.parents[1].name: _read_overrides(path) for path in paths}


def _read_overrides(path: Path) -> list[str]:
    try:
        found = read_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    return [str(word) for word in found] if isinstance(found, list) else []


def varied_overrides(sweep_dir: Path) -> dict[str, dict[str, str]]:
    """Trial -> key -> value of what differs between the trials of a multirun, those that failed too; nothing of a single trial."""
    words = {
        name: dict(word.lstrip("+").split("=", 1) for word in said if "=" in word)
        for name, said in load_trial_overrides(sweep_dir).items()
    }
    keys = [
        key
        for key in dict.fromkeys(key for of_trial in words.values() for key in of_trial)
        if not key.startswith(SWEEP_OVERRIDE_PREFIXES)
    ]
    differ = [key for key in keys if len({of_trial.get(key) for of_trial in words.values()}) > 1]
    return {
        name: {key: of_trial.get(key, "") for key in differ} for name, of_trial in words.items()
    }


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Key -> as many of its last parts as tell it from the others: `lr`, `loss.alpha`."""
    names = {}
    for key in (found := list(keys)):
        parts = key.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        names[key] = next(
            (
                end
                for end in ends
                if sum(other == end or other.endswith(f".{end}") for other in found) == 1
            ),
            key,
        )
    return names


def parse_finite_number(value: str) -> float | None:
    """A value as a finite number, where it is one."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if isfinite(found) else None


def format_value(value: str) -> str:
    """A value for people: numbers of many digits are rounded to four."""
    found = parse_finite_number(value)
    return value if found is None or len(value) <= 7 else f"{found:.4g}"
