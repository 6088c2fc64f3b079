"""How many folds a sweep over `fold` means; asked before Hydra composes anything. Imports nothing heavy."""

from collections.abc import Sequence
from typing import Any

from datamodules.refusal import Refusal

MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")


def folds_word(words: Sequence[str]) -> str | None:
    """`folds=5` where a multirun says `fold=range(5)` and not how many folds there are; None where nothing is to be added.

    Args:
        words: Of the command line.

    Raises:
        Refusal: the swept folds leave open how many there are, or one is none of them.
    """
    said = {override.key_or_group: (word, override) for word, override in _overrides(words)} if set(MULTIRUN) & set(words) else {}
    if "fold" not in said or not said["fold"][1].is_sweep_override():
        return None
    from hydra.errors import HydraException

    word, override = said["fold"]
    try:
        swept = sorted({int(fold) for fold in override.sweep_string_iterator()})
    except (ValueError, HydraException):  # such as an interval
        raise Refusal(f"{word} names what is no fold; write their numbers, such as fold=range(5)") from None
    if "folds" not in said:
        if swept != list(range(len(swept))) or len(swept) < 2:
            raise Refusal(f"{word} leaves open how many folds there are; add folds={max(5, swept[-1] + 1)}, or take all by fold=range(5)")
        return f"folds={len(swept)}"
    folds = said["folds"][1]
    if not folds.is_sweep_override() and isinstance(folds.value(), int) and not 0 <= swept[0] <= swept[-1] < folds.value():
        raise Refusal(f"{word} asks for folds that {said['folds'][0]} does not have; take fold=range({max(2, folds.value())})")
    return None


def _overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """Each word as Hydra understands it; one that it does not is left for Hydra to tell."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, found = OverridesParser.create(), []
    for word in words:
        if word.lstrip("+").startswith(("fold=", "folds=")):
            try:
                found.append((word, parser.parse_override(word)))
            except HydraException:
                continue
    return found
