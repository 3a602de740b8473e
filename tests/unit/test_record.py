"""Records: to JSON and back, and every fault named by its place in the document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument
from minicontainer.record import NO_ENTRIES, Record, camel, pascal


class Leaf(Record, json={"container_id": "containerID"}):
    """Irregular names, and an optional value."""

    container_id: int
    note: str | None = None


class Tree(Record):
    """One field of every kind that a record may have."""

    name: str
    count: int = 0
    share: float = 0.0
    here: bool = False
    only: Leaf | None = None
    words: tuple[str, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = NO_ENTRIES
    any_args: tuple[object, ...] = ()


class Docker(Record, names=pascal):
    """Names as Docker's API has them."""

    port_bindings: int = 0


WHOLE = {
    "name": "web", "count": 3, "share": 0.5, "here": True, "only": {"containerID": 1},
    "words": ["a"], "leaves": [{"containerID": 1}, {"containerID": 2, "note": "b"}],
    "byName": {"x": {"containerID": 3}}, "anyArgs": [1, "a", None],
}  # fmt: skip

# What a kernel call may be given: no NUL, no half of a surrogate pair.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
leaves = st.builds(Leaf, container_id=st.integers(), note=st.none() | texts)
trees = st.builds(
    Tree,
    name=texts,
    count=st.integers(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    here=st.booleans(),
    only=st.none() | leaves,
    words=st.lists(texts).map(tuple),
    leaves=st.lists(leaves).map(tuple),
    by_name=st.dictionaries(texts, leaves),
    any_args=st.lists(st.none() | st.integers() | texts).map(tuple),
)


@given(trees)
def test_what_is_written_is_read_again(tree: Tree) -> None:
    """Through real text, not only through dictionaries."""
    again = Tree.from_json(jsontext.parse(jsontext.dump(tree.to_json())))
    assert again == tree
    assert hash(again) == hash(tree)


def test_names_in_json_are_the_specifications() -> None:
    """By rule, and where the rule does not hold, by the class's own word."""
    assert Tree.from_json(WHOLE).to_json() == WHOLE
    assert Docker.from_json({"PortBindings": 1}).to_json() == {"PortBindings": 1}
    assert (camel("oom_score_adj"), pascal("nano_cpus")) == ("oomScoreAdj", "NanoCpus")


WRONG_FOR = {
    "name": (1, None, [], {}, True),
    "count": ("1", 1.5, [], {}, True),
    "share": ("1", [], {}, True),
    "here": (1, "true", []),
    "only": (1, [], "x"),
    "only.containerID": ("1", None, [], True),
    "only.note": (1, []),
    "words": ("a", {}, 1),
    "words[0]": (1, None, []),
    "leaves": ({}, "x"),
    "leaves[1]": (1, []),
    "leaves[1].note": (1,),
    "byName": ([], "x"),
    "byName.x": (1, []),
    "byName.x.containerID": ("x",),
    "anyArgs": ({}, 1),
}


def changed(value: Any, path: str, new: Any) -> Any:
    """Give a copy of a document with another value at *path*."""
    step, _, rest = path.replace("[", ".").replace("]", "").lstrip(".").partition(".")
    if not step:
        return new
    if isinstance(value, list):
        at = int(step)
        return [changed(old, rest, new) if i == at else old for i, old in enumerate(value)]
    return {**value, step: changed(value.get(step), rest, new)}


@pytest.mark.parametrize(
    ("path", "wrong"), [(path, wrong) for path, wrongs in WRONG_FOR.items() for wrong in wrongs]
)
def test_a_value_of_the_wrong_type_is_named_by_its_path(path: str, wrong: object) -> None:
    """With what was expected, and what stands there."""
    with pytest.raises(InvalidArgument) as caught:
        Tree.from_json(changed(WHOLE, path, wrong))
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    kinds: dict[type, str] = {list: "a list", dict: "an object"}
    shown = kinds.get(type(wrong), jsontext.dump(wrong))
    assert message.endswith(f", got {shown}")


def test_a_path_begins_where_the_record_stands() -> None:
    """For a part that is read by itself."""
    with pytest.raises(InvalidArgument, match=r"^linux\.tree\.only\.containerID: expected a whole"):
        Tree.from_json({"name": "x", "only": {"containerID": "1"}}, "linux.tree")
    with pytest.raises(InvalidArgument, match=r"^the document: expected an object, got 3"):
        Tree.from_json(3)


def test_a_missing_field_is_named() -> None:
    """One without a default has to be there."""
    with pytest.raises(InvalidArgument, match=r"^name: is required$"):
        Tree.from_json({})
    with pytest.raises(InvalidArgument, match=r"^leaves\[0\]\.containerID: is required$"):
        Tree.from_json({"name": "x", "leaves": [{}]})


@given(st.dictionaries(texts.filter(lambda name: name not in WHOLE), st.integers() | texts))
def test_unknown_fields_are_passed_over(unknown: dict[str, Any]) -> None:
    """As the runtime specification wants it: "Extensibility"."""
    assert Tree.from_json({**unknown, "name": "x"}) == Tree(name="x")


def test_null_stands_for_the_default() -> None:
    """Where there is one."""
    assert Tree.from_json({"name": "x", "count": None, "words": None}) == Tree(name="x")


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff"])
def test_text_that_no_system_call_takes_is_refused(text: str) -> None:
    """JSON can write it; ctypes would cut it, and encoding it fail far from here."""
    with pytest.raises(InvalidArgument, match=r"^words\[1\]: holds a character"):
        Tree.from_json({"name": "x", "words": ["a", text]})


def test_names_that_are_no_unicode_pass() -> None:
    """A file's name may be any bytes; Python writes them as lone low surrogates."""
    name = b"\xff\xfe".decode(errors="surrogateescape")
    assert Tree.from_json(jsontext.parse(jsontext.dump({"name": name}))).name == name


def test_whole_numbers_may_be_written_with_a_point() -> None:
    """JSON knows one kind of number; 1e3 is what some writers make of 1000."""
    assert Tree.from_json({"name": "x", "count": 1e3}).count == 1000


def test_a_long_wrong_value_is_shortened() -> None:
    """One line is one line."""
    with pytest.raises(InvalidArgument) as caught:
        Tree.from_json({"name": ["x" * 1000]})
    assert len(str(caught.value)) < 120


def test_a_record_does_not_change() -> None:
    """`replace` makes another; defaults are shared, and can't be put anything into."""
    leaf = Leaf(container_id=1)
    with pytest.raises(AttributeError, match="frozen"):
        leaf.note = "x"  # type: ignore[misc]  # what a type checker forbids, too
    assert leaf.replace(note="x") == Leaf(container_id=1, note="x") != leaf
    with pytest.raises(TypeError):
        Tree(name="x").by_name["x"] = leaf


def test_fields_are_given_by_name_and_completely() -> None:
    """A slip in the code, not of the user: a TypeError."""
    with pytest.raises(TypeError, match="no field 'nam'"):
        Leaf(container_id=1, nam="x")  # type: ignore[call-arg]  # the slip
    with pytest.raises(TypeError, match="needs the field 'container_id'"):
        Leaf()  # type: ignore[call-arg]  # the slip


def test_names_in_any_case_become_exact() -> None:
    """Inside lists, objects and other records too; what is no field's name stays as it is."""
    told = {
        "NAME": "x", "Only": {"ContainerId": 1}, "Leaves": [{"containerid": 2}],
        "BYNAME": {"X": {"CONTAINERID": 3}}, "Other": {"Name": 1}, "words": None,
    }  # fmt: skip
    assert Tree.with_exact_names(told) == {
        "name": "x", "only": {"containerID": 1}, "leaves": [{"containerID": 2}],
        "byName": {"X": {"containerID": 3}}, "Other": {"Name": 1}, "words": None,
    }  # fmt: skip
    assert Tree.with_exact_names("x") == "x"


def test_fields_are_inherited() -> None:
    """With their types, which may be names of the base's module."""

    class More(Leaf):
        extra: int = 0

    assert More.from_json({"containerID": 1, "extra": 2}) == More(container_id=1, extra=2)
    with pytest.raises(InvalidArgument, match=r"^containerID: expected"):
        More.from_json({"containerID": "x"})
