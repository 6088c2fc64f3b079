"""Check of parsed JSON by a schema of pydantic; what is wrong is named in one sentence."""

import re
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from datamodules.errors import ManifestError
from datamodules.formats.file_content import shorten

Parsed = TypeVar("Parsed")
_BRANCH = re.compile(r"(constrained-)?(int|str|float|bool)|.*\[.*")
_NO_REASON = re.compile(
    r"^(Value error, |Input |String |List |Dictionary |Tuple )|, unable to parse .*$"
)
VALID = "should be a valid "


def parse_by_schema(
    schema: TypeAdapter[Parsed], value: Any, where: str, fix: str = "export it again"
) -> Parsed:
    """Return a value as its schema has it.

    Args:
        schema: The schema.
        value: Parsed JSON.
        where: File, and the place in it, for the message.
        fix: End of the message.

    Raises:
        ManifestError: It does not fit; the message names the first place and what is there.
    """
    try:
        return schema.validate_python(value)
    except ValidationError as error:
        raise ManifestError(f"{where} {describe_misfit(error)}; {fix}") from error


def describe_misfit(error: ValidationError) -> str:
    """Return what does not fit a schema: `has images.3.height='x', which should be an integer`."""
    errors = error.errors(include_url=False)
    first, place = errors[0], _place(errors[0])
    if first["type"] == "missing":
        return f"has no {place}"
    found = shorten(_excerpt(first["input"]), 60)
    named = f"has {place}={found}" if place else f"holds {found}"
    same = [each["msg"] for each in errors if _place(each) == place]  # one for each allowed type
    reasons = list(dict.fromkeys(_NO_REASON.sub("", reason) for reason in same))
    types = [reason.removeprefix(VALID) for reason in reasons if reason.startswith(VALID)]
    other = [reason for reason in reasons if not reason.startswith(VALID)]
    if types:
        other.append(VALID + " or ".join(filter(None, [", ".join(types[:-1]), types[-1]])))
    return f"{named}, which {shorten(', or '.join(other))}"


def _place(error: Any) -> str:
    """Return the place of an error in the file, without the names of types among several."""
    return ".".join(str(part) for part in error["loc"] if not _BRANCH.fullmatch(str(part)))


def _excerpt(value: Any) -> str:
    """Return a short text of a value, without writing all of a large one."""
    if isinstance(value, list | tuple | dict) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} values"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "an integer of more than 20 digits"
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
