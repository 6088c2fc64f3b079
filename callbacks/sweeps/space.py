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

from callbacks.sweeps.words import REPLICATE_KEYS
from datamodules.refusal import UserError

UNSEARCHABLE_KEYS = (*REPLICATE_KEYS, "datamodule.seed")
EXAMPLE_OVERRIDE = "'module.optimizer.lr=tag(log,interval(1e-4,1e-2))'"


@dataclass(frozen=True)
class SearchSpace:
    """Of one experiment.

    Attributes:
        distributions: Key -> what it is drawn from.
        fixed_overrides: Words that every trial has.
    """

    distributions: dict[str, BaseDistribution]
    fixed_overrides: list[str]


def parse_space(params: Mapping[str, str] | None, overrides: Sequence[str]) -> SearchSpace:
    """The space of conf/sweep, and over it the words of the command line: `KEY=interval(a,b)` is searched, `KEY=value` fixed, `~KEY` left out.

    Args:
        params: Key -> what it is drawn from, in Hydra's grammar of sweeps.
        overrides: Of the command line.

    Raises:
        Refusal: nothing is searched, or a word says nothing that can be.
    """
    searched: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    experiment = "this experiment"
    for override, word in _parse_overrides(
        [*(f"{key}={drawn}" for key, drawn in (params or {}).items()), *overrides]
    ):
        key = override.get_key_element()
        same = next(
            (other for other in searched if _strip_prefix(other) == _strip_prefix(key)), None
        )
        if override.is_sweep_override():
            if key == "experiment":
                raise UserError(
                    f"{word}: a study searches one experiment; take hydra/sweeper=basic to run"
                    " several beside each other"
                )
            if _strip_prefix(key) in UNSEARCHABLE_KEYS:
                raise UserError(
                    f"{word}: the best of several {_strip_prefix(key)}s is the luckiest; take folds=5 in"
                    " each trial, or hydra/sweeper=basic"
                )
            searched.pop(same or "", None)
            fixed.pop(_strip_prefix(key), None)
            searched[key] = _parse_distribution(override, word)
        elif same is None or not override.is_delete():
            searched.pop(same or "", None)
            fixed[_strip_prefix(key) if not override.is_delete() else word] = word
        else:
            searched.pop(same)
        experiment = (
            word if key == "experiment" and not override.is_sweep_override() else experiment
        )
    if not searched:
        raise UserError(
            f"{experiment} has no space in conf/sweep, and no word of the command line says what to"
            f" search; add one such as {EXAMPLE_OVERRIDE}"
        )
    return SearchSpace(searched, list(fixed.values()))


def _parse_overrides(overrides: Sequence[str]) -> Iterator[tuple[Override, str]]:
    parser = OverridesParser.create()
    return ((parser.parse_override(word), word) for word in overrides)


def _strip_prefix(key: str) -> str:
    return key.lstrip("+~")


def _parse_distribution(override: Override, text: str) -> BaseDistribution:
    try:
        return create_optuna_distribution_from_override(override)
    except (AssertionError, ValueError, NotImplementedError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{text} says nothing that can be searched ({said}); write it like {EXAMPLE_OVERRIDE}, or"
            " choice(a,b)"
        ) from error


def describe_distribution(distribution: BaseDistribution) -> str:
    """What a key is drawn from, in words: `0.0001 to 0.01, log` or `4, 8, 16`."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    if isinstance(distribution, FloatDistribution | IntDistribution):
        step = (
            distribution.step
            if distribution.step is not None
            and (isinstance(distribution, FloatDistribution) or distribution.step != 1)
            else None
        )
        return (
            f"{distribution.low:g} to {distribution.high:g}"
            + (", log" if distribution.log else "")
            + (f", in steps of {step:g}" if step else "")
        )
    return str(distribution)


def to_override(key: str, value: Any) -> str:
    """`KEY=value` of one drawn value; quoted where Hydra's grammar would read something else. Lists and mappings come in words already."""
    plain = f"{key}={value}"
    if not isinstance(value, str):
        return (
            plain
            if value is not None and not isinstance(value, bool)
            else f"{key}={quote_value(value)}"
        )
    try:
        read = OverridesParser.create().parse_override(plain).value()
    except HydraException:
        read = None
    return (
        plain if read == value or isinstance(read, list | dict) else f"{key}={quote_value(value)}"
    )


def quote_value(value: Any) -> str:
    """A value as Hydra's grammar reads it back; what is interpolated stays so."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{quote_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(quote_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not (value.startswith("${") and value.endswith("}")):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)
