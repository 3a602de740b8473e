"""JSON text: the same as the standard library's json, without its import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minicontainer import jsontext

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def refuse(name: str) -> None:
    """Make json as strict as its standard: NaN and Infinity are not in it."""
    raise ValueError(name)


def by_json(text: str) -> Any:
    """Read with the standard library."""
    return json.loads(text, parse_constant=refuse)


@given(values)
def test_what_is_written_reads_as_it_was(value: object) -> None:
    """By both readers."""
    text = jsontext.dump(value)
    assert by_json(text) == value
    assert jsontext.parse(text) == value


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_what_json_writes_is_read(value: object, indent: int | None, ascii_only: bool) -> None:
    """With blanks, and with letters that are not ASCII."""
    assert jsontext.parse(json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == value


@given(
    st.text('{}[]:,"\\ \n\t0123456789.-+eEtrufalsn/\u00e9\x01\x0b')
    | values.map(json.dumps).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])
    )
)
@example("")
@example(" ")
@example("NaN")
@example("-Infinity")
@example("[1,]")
@example('{"a":1,}')
@example("1 2")
@example("\ufeff1")
@example('"\x01"')
@example("01")
@example("-")
@example('{"a":1,"a":2}')
@example("\u00a01")
def test_any_text_is_read_or_refused_as_json_does(text: str) -> None:
    """Broken text is a ValueError, the kind of error that callers expect."""
    try:
        expected = by_json(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            jsontext.parse(text)
    else:
        assert jsontext.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1, column 1"),
        ("{\n  x}", "line 2 column 3"),
        ("1\n 2", "line 2, column 2"),
        ("[\n\n", "line 3, column 1"),
        ('"a', "line 1 column 1"),
    ],
)
def test_an_error_says_where(text: str, place: str) -> None:
    """As an editor counts: from 1."""
    with pytest.raises(ValueError, match=place):
        jsontext.parse(text)


@pytest.mark.parametrize("text", ["{", '"a', "[1", '{"a" 1}', "x", "1 2"])
def test_an_error_is_the_same_where_json_was_never_imported(text: str) -> None:
    """As in a start: an interpreter of its own, because this one has imported it."""
    look = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from minicontainer import jsontext\n"
        "assert 'json' not in sys.modules\n"
        f"try: jsontext.parse({text!r})\n"
        "except ValueError as error: print(error, end='')"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", look], capture_output=True, text=True, check=False
    )
    with pytest.raises(ValueError, match=r".") as caught:
        jsontext.parse(text)
    assert (done.stdout, done.stderr) == (str(caught.value), "")


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    """A stack overflow would end the process."""
    with pytest.raises(RecursionError):
        jsontext.parse("[" * 1_000_000)


def test_what_is_no_json_is_written_as_its_text() -> None:
    """Events hold whatever was passed to a call; NaN alone has no text that others could read."""
    assert by_json(jsontext.dump({"path": b"x"})) == {"path": "b'x'"}
    with pytest.raises(ValueError, match="JSON compliant"):
        jsontext.dump(float("nan"))


def test_a_value_for_people_is_what_json_writes() -> None:
    """With its indentation, and the same value when it is read."""
    value = {"a": [1, {"b": []}, "x\n"], "c": {}, "d": None, "e": {"f": [True, 1.5]}}
    assert jsontext.pretty(value) == json.dumps(value, indent=4)
