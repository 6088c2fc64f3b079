"""What a schema says of a value that does not fit it."""

from typing import Annotated

import pytest
from pydantic import Field, StringConstraints, TypeAdapter

from datamodules.errors import ManifestError
from datamodules.formats.schema import parse_by_schema

Name = Annotated[str, StringConstraints(max_length=5)]
SCHEMA = TypeAdapter(dict[str, list[int | float | Name] | None])
LIMITED = TypeAdapter(Annotated[list[int], Field(min_length=1)])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, {}]}, "has a.1={}, which should be a valid integer, number or string"),
        ({"a": 7}, "has a=7, which should be a valid list"),
        ([3], r"holds [3], which should be a valid dictionary"),
        (
            {"a": ["long name"]},
            "has a.0='long name', which should have at most 5 characters, or should be a valid"
            " integer or number",
        ),
    ],
)
def test_all_types_that_would_fit_are_named_and_no_internal_name(value, said):
    with pytest.raises(ManifestError) as error:
        parse_by_schema(SCHEMA, value, "a.json", "correct it")
    assert str(error.value) == f"a.json {said}; correct it"


def test_a_limit_is_said_as_a_sentence():
    with pytest.raises(ManifestError, match=r"holds \[\], which should have at least 1 item"):
        parse_by_schema(LIMITED, [], "a.json")
