"""Describe differences between the configurations of runs in short labels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

SEED_KEYS = ("seed", "datamodule.seed")
EXECUTION_KEYS = (
    "paths",
    "title",
    "runs",
    "do",
    "resume",
    "logger",
)  # names of a run and its way of execution, which do not change its result
EXECUTION_KEY_PREFIXES = (
    "callbacks.pruning.",
    "callbacks.progress.",
    "callbacks.report.",
    "callbacks.lora_export.",
    "trainer.enable_progress_bar",
    "datamodule.num_workers",
)
TARGET = "_target_"  # last part of the key of a class
UNCLEAR_NAMES = ("p",)  # last parts of keys that are unclear alone, as in `flip.p`
SIGNIFICANT_DIGITS = 4  # of a number
MAX_LISTED_DIFFERENCES = (
    2  # places in which a list of settings may differ before its variants are called by letters
)


def flatten_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Flatten a configuration to dotted keys, without the run's names and how it is executed."""
    config = config or {}
    own = (config.get("paths") or {}).get("run")
    flat = _iter_leaves({name: part for name, part in config.items() if name not in EXECUTION_KEYS})
    return {
        key: value
        for key, value in flat
        if not key.startswith(EXECUTION_KEY_PREFIXES) and not _mentions_run_dir(own, value)
    }


def _mentions_run_dir(run_dir: Any, value: Any) -> bool:
    return run_dir is not None and isinstance(value, str | list) and str(run_dir) in str(value)


def _iter_leaves(config: Any) -> Iterator[tuple[str, Any]]:
    found = [("", config)]
    while found:
        prefix, part = found.pop()
        if isinstance(part, dict):
            found.extend(
                (f"{prefix}.{name}" if prefix else str(name), value)
                for name, value in reversed(part.items())
            )
        elif isinstance(part, list) and any(
            isinstance(value, dict) for value in part
        ):  # such as the stages of a curriculum
            found.extend(
                (f"{prefix}[{number}]", value) for number, value in reversed(list(enumerate(part)))
            )
        else:
            yield prefix, part


def config_diff(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Name each run's settings that not all share: stem of the key -> words.

    Words are such as `rank=8` or `stages[1].lr=0.0001`. A list that differs in more than two places
    has a letter for each of its variants: `stages=B`. An object that not all runs have is named
    once, `elastic=ElasticTransform`, without arguments that are the same wherever it is. Numbers
    are rounded, and classes are named without their module, unless different runs would then look
    alike.

    Args:
        settings: One mapping a run.
    """
    exact, rounded = (
        _describe_differences(settings, None),
        _describe_differences(settings, SIGNIFICANT_DIGITS),
    )
    kinds = [len({tuple(one.items()) for one in labels}) for labels in (exact, rounded)]
    return rounded if kinds[0] == kinds[1] else exact


def _describe_differences(
    settings: Sequence[Mapping[str, Any]], digits: int | None
) -> list[dict[str, str]]:
    keys = dict.fromkeys(key for one in settings for key in one)
    stems: dict[str, list[str]] = {}
    for key in keys:
        first = settings[0].get(key)
        differs = any(one.get(key) != first for one in settings)
        if differs and not _is_implied(settings, key) and not _repeats_root_key(settings, key):
            stems.setdefault(key.split("[")[0], []).append(key)
    found: list[dict[str, str]] = [{} for _ in settings]
    names = short_names(stems)
    for stem, unequal in stems.items():
        name = names[stem]
        letters = (
            _variant_letters(settings, stem)
            if sum("[" in key for key in unequal) > MAX_LISTED_DIFFERENCES
            else None
        )
        for n, one in enumerate(settings):
            words = [
                name
                if _is_switch(settings, key)
                else f"{name}{key.removeprefix(stem)}={_format_rounded(key, one[key], digits)}"
                for key in unequal
                if key in one
            ]
            if letters and letters[n]:
                found[n][stem] = f"{name}={letters[n]}"
            elif words:
                found[n][stem] = ", ".join(words)
    return found


def _repeats_root_key(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Return whether a key follows the root key of its name, as `module.net.image_size`."""
    root = key.rpartition(".")[2]
    return key != root and all(
        root in one and one.get(key, one[root]) == one[root] for one in settings
    )


def _is_implied(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Return whether a key is an argument that goes without saying where its object is named.

    Not all runs have the object, and those that have it share this argument.
    """
    target = f"{key.rpartition('.')[0]}.{TARGET}"
    having = [one for one in settings if target in one]
    return (
        key != target
        and 0 < len(having) < len(settings)
        and all(key in one and one[key] == having[0].get(key) for one in having)
        and len({one[target] for one in having}) == 1
    )


def _is_switch(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Return whether a key is the class of a callback that some runs have, all of them the same."""
    having = {one[key] for one in settings if key in one}
    return key.startswith("callbacks.") and key.endswith(f".{TARGET}") and len(having) == 1


def _format_rounded(key: str, value: Any, digits: int | None) -> str:
    if digits and key.endswith(f".{TARGET}"):
        return str(value).rpartition(".")[2]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]  # as in the configuration
    return f"{value:.{digits}g}" if digits and isinstance(value, float) else str(value)


def _variant_letters(settings: Sequence[Mapping[str, Any]], stem: str) -> list[str]:
    """Letter the variants of a list in order, from A; numbers beyond 26, '' for runs without it."""
    variants = [
        repr([(key, value) for key, value in one.items() if key.startswith(f"{stem}[")])
        for one in settings
    ]
    place = {
        variant: number
        for number, variant in enumerate(dict.fromkeys(v for v in variants if v != "[]"))
    }
    return [
        "" if v == "[]" else chr(ord("A") + place[v]) if place[v] < 26 else str(place[v])
        for v in variants
    ]


SWEEP_OVERRIDE_PREFIXES = ("resume", "callbacks.pruning", "hydra.")  # words that the sweep adds
REPLICATE_KEYS = (
    "fold",
    "seed",
)  # replicates of one training; they are no variants, and none of them is the best


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Shorten keys to as many last parts as distinguish them: `lr`, `loss.alpha`, `flip.p`.

    The class of an object has the object's name: `elastic` of `elastic._target_`.
    """
    paths = {key: key.removesuffix(f".{TARGET}") for key in keys}
    distinct = set(paths.values())
    names = {}
    for key, path in paths.items():
        parts = path.split(".")
        shortest = 2 if parts[-1] in UNCLEAR_NAMES else 1
        ends = [".".join(parts[-length:]) for length in range(shortest, len(parts) + 1)]
        names[key] = next(
            (
                end
                for end in ends
                if sum(other == end or other.endswith(f".{end}") for other in distinct) == 1
            ),
            path,
        )
    return names


def parse_finite_number(value: str) -> float | None:
    """Parse a value as a finite number; None if it is none."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if isfinite(found) else None


def format_value(value: str) -> str:
    """Format a value for display: numbers of many digits are rounded to four."""
    found = parse_finite_number(value)
    return value if found is None or len(value) <= 7 else f"{found:.4g}"
