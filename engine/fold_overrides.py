"""Interprets a sweep over `fold` or `seed` before any trial: number of folds, splits.

Imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datamodules.errors import UserError

MULTIRUN_FLAGS = ("-m", "--multirun", "hydra.mode=MULTIRUN")
RELEVANT_KEYS = (
    "fold",
    "folds",
    "seed",
    "experiment",
    "scale",
    "datamodule",
    "datamodule.seed",
    "datamodule.split",
)
ParsedOverrides = Mapping[str, tuple[str, Any]]  # key -> the word, and it as Hydra understands it


def infer_n_folds(words: Sequence[str], conf: Path) -> str | None:
    """Return `folds=5` for a multirun of `fold=range(5)` that does not say it, else None.

    Args:
        words: Overrides of the command line.
        conf: The folder of the configuration, where an experiment may set the number of folds.

    Raises:
        UserError: The number of folds stays open, or a swept fold does not exist.
    """
    said = _parse_overrides(words) if set(MULTIRUN_FLAGS) & set(words) else {}
    if "fold" not in said or not said["fold"][1].is_sweep_override():
        return None
    from hydra.errors import HydraException

    word, override = said["fold"]
    try:
        swept = sorted({int(fold) for fold in override.sweep_string_iterator()})
    except (ValueError, HydraException):  # such as an interval
        raise UserError(
            f"{word} names what is no fold; write their numbers, such as 'fold=range(5)'"
        ) from None
    own = {
        name: _experiment_folds(name, said, conf)
        for name in _override_values(said, "experiment", "demo")
    }
    if "folds" in said:
        folds = said["folds"][1]
        number = None if folds.is_sweep_override() else folds.value()
    elif any(own.values()):
        number = max(own.values())
        without = [name for name in own if not own[name]]
        if without:
            raise UserError(
                f"{word} means no folds for {without[0]}, which has none of its own as others have;"
                f" add folds={number}"
            )
    elif swept == list(range(len(swept))) and len(swept) > 1:
        return f"folds={len(swept)}"
    else:
        raise UserError(
            f"{word} leaves open how many folds there are; add folds={max(5, swept[-1] + 1)}, or"
            " take all by 'fold=range(5)'"
        )
    if isinstance(number, int) and not 0 <= swept[0] <= swept[-1] < number:
        who = (
            said["folds"][0]
            if "folds" in said
            else f"folds={number} of {max(own, key=lambda name: own[name])}"
        )
        raise UserError(
            f"{word} asks for folds that {who} does not have; take 'fold=range({max(2, number)})'"
        )
    return None


def _experiment_folds(experiment: str, said: ParsedOverrides, conf: Path) -> int:
    """Return how many folds an experiment makes at the requested scale, 0 for none."""
    places = [conf / "experiment"] + [conf / "scale" / "demo_of"] * (
        "demo" in _override_values(said, "scale", "full")
    )
    number = 0
    for path in (place / f"{experiment}.yaml" for place in places):
        if path.is_file():
            number = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("folds", number)
    return number if isinstance(number, int) else 0


def warn_split_changes(words: Sequence[str], split: str) -> str | None:
    """Return a warning if each seed of a multirun also splits the data differently, else None.

    Args:
        words: Overrides of the command line.
        split: `datamodule.split`, as far as it is not swept.
    """
    said = _parse_overrides(words)
    if "seed" not in said or not said["seed"][1].is_sweep_override() or "datamodule.seed" in said:
        return None
    swept = any(
        key in said and said[key][1].is_sweep_override()
        for key in ("experiment", "datamodule", "datamodule.split")
    )
    if split == "folders" and not swept:
        return None
    mend = "datamodule.seed=0 keeps one"
    return (
        "each seed also draws its own split of the data, so their test sets may differ and are"
        f" then not merged; {mend}"
    )


def _override_values(said: ParsedOverrides, key: str, default: str) -> list[str]:
    """Return the value of an override, all values if it is swept."""
    if key not in said:
        return [default]
    override = said[key][1]
    return (
        list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [str(override.value())]
    )


def _parse_overrides(words: Sequence[str]) -> ParsedOverrides:
    """Parse the overrides that matter here; those that Hydra cannot parse are left to it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, found = OverridesParser.create(), {}
    for word in words:
        if word.lstrip("+").split("=", 1)[0] in RELEVANT_KEYS and "=" in word:
            try:
                override = parser.parse_override(word)
            except HydraException:
                continue
            found[override.key_or_group] = (word, override)
    return found
