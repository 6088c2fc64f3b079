"""What a study searches: the space of an experiment, narrowed, fixed or extended by the words of the command line. Imports nothing heavy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from callbacks.sweeps.words import DRAWN
from datamodules.refusal import Refusal

NOT_SEARCHED = (*DRAWN, "datamodule.seed")
EXAMPLE = "'module.optimizer.lr=tag(log,interval(1e-4,1e-2))'"


@dataclass(frozen=True)
class Space:
    """Of one experiment.

    Attributes:
        searched: Key -> what it is drawn from.
        fixed: Words that every trial has.
    """

    searched: dict[str, BaseDistribution]
    fixed: list[str]


def space(params: Mapping[str, str] | None, words: Sequence[str]) -> Space:
    """The space of conf/sweep, and over it the words of the command line: `KEY=interval(a,b)` is searched, `KEY=value` fixed, `~KEY` left out.

    Args:
        params: Key -> what it is drawn from, in Hydra's grammar of sweeps.
        words: Of the command line.

    Raises:
        Refusal: nothing is searched, or a word says nothing that can be.
    """
    searched: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    experiment = "this experiment"
    for override, word in _parsed(
        [*(f"{key}={drawn}" for key, drawn in (params or {}).items()), *words]
    ):
        key = override.get_key_element()
        same = next((other for other in searched if _bare(other) == _bare(key)), None)
        if override.is_sweep_override():
            if key == "experiment":
                raise Refusal(
                    f"{word}: a study searches one experiment; take hydra/sweeper=basic to run"
                    " several beside each other"
                )
            if _bare(key) in NOT_SEARCHED:
                raise Refusal(
                    f"{word}: the best of several {_bare(key)}s is the luckiest; take folds=5 in"
                    " each trial, or hydra/sweeper=basic"
                )
            searched.pop(same or "", None)
            fixed.pop(_bare(key), None)
            searched[key] = _distribution(override, word)
        elif same is None or not override.is_delete():
            searched.pop(same or "", None)
            fixed[_bare(key) if not override.is_delete() else word] = word
        else:
            searched.pop(same)
        experiment = (
            word if key == "experiment" and not override.is_sweep_override() else experiment
        )
    if not searched:
        raise Refusal(
            f"{experiment} has no space in conf/sweep, and no word of the command line says what to"
            f" search; add one such as {EXAMPLE}"
        )
    return Space(searched, list(fixed.values()))


def _parsed(words: Sequence[str]) -> Iterator[tuple[Override, str]]:
    parser = OverridesParser.create()
    return ((parser.parse_override(word), word) for word in words)


def _bare(key: str) -> str:
    return key.lstrip("+~")


def _distribution(override: Override, word: str) -> BaseDistribution:
    try:
        return create_optuna_distribution_from_override(override)
    except (AssertionError, ValueError, NotImplementedError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise Refusal(
            f"{word} says nothing that can be searched ({said}); write it like {EXAMPLE}, or"
            " choice(a,b)"
        ) from error


def described(drawn: BaseDistribution) -> str:
    """What a key is drawn from, in words: `0.0001 to 0.01, log` or `4, 8, 16`."""
    if isinstance(drawn, CategoricalDistribution):
        return ", ".join(map(str, drawn.choices))
    if isinstance(drawn, FloatDistribution | IntDistribution):
        step = (
            drawn.step
            if drawn.step is not None and (isinstance(drawn, FloatDistribution) or drawn.step != 1)
            else None
        )
        return (
            f"{drawn.low:g} to {drawn.high:g}"
            + (", log" if drawn.log else "")
            + (f", in steps of {step:g}" if step else "")
        )
    return str(drawn)


def spoken(key: str, value: Any) -> str:
    """`KEY=value` of one drawn value; quoted where Hydra's grammar would read something else. Lists and mappings come in words already."""
    plain = f"{key}={value}"
    if not isinstance(value, str):
        return (
            plain if value is not None and not isinstance(value, bool) else f"{key}={word(value)}"
        )
    try:
        read = OverridesParser.create().parse_override(plain).value()
    except HydraException:
        read = None
    return plain if read == value or isinstance(read, list | dict) else f"{key}={word(value)}"


def word(value: Any) -> str:
    """A value as Hydra's grammar reads it back; what is interpolated stays so."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{word(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(word, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not (value.startswith("${") and value.endswith("}")):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)
