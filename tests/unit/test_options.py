"""The words of a mount's options, from their table."""

from __future__ import annotations

import gc
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.kernel import mounts
from minicontainer.kernel.mount_options import (
    OPTIONS,
    RECURSIVE_OPTIONS,
    Options,
    parse_options,
)
from minicontainer.kernel.mounts import Attributes

ATTRIBUTES = [word for word, option in OPTIONS.items() if option.set or option.clear]
ATIME = mounts.MOUNT_ATTR__ATIME
ALL_BITS = 0x2000FF

# What the manual pages say of each word: mount(8), mount_setattr(2).
EXPECTED = {
    "ro": (0x1, 0), "rw": (0, 0x1), "nosuid": (0x2, 0), "suid": (0, 0x2), "nodev": (0x4, 0),
    "dev": (0, 0x4), "noexec": (0x8, 0), "exec": (0, 0x8), "nodiratime": (0x80, 0),
    "diratime": (0, 0x80), "nosymfollow": (0x200000, 0), "symfollow": (0, 0x200000),
    "noatime": (0x10, 0x70), "strictatime": (0x20, 0x70), "relatime": (0, 0x70),
    "atime": (0, 0x70), "norelatime": (0, 0x70), "nostrictatime": (0, 0x70),
}  # fmt: skip


# What asks for what a new mount is by itself, or for nothing: mount(8).
NOTHING = {"defaults", "silent", "loud", "iversion", "noiversion"}
DEFAULTS = {"async": "sync", "nodirsync": "dirsync", "nolazytime": "lazytime", "nomand": "mand"}


@pytest.mark.parametrize("word", OPTIONS)
def test_every_word_does_something_and_one_thing(word: str) -> None:
    """To the mount, to the filesystem, to the propagation, it makes a bind, or asks the runtime."""
    found = parse_options((word,))
    changed = [
        found.attributes != Attributes(),
        found.flags != () and word != "ro",  # of the mount, and of its filesystem: mount(2)
        found.propagation != (),
        found.bind != 0,
        found.asked != (),
    ]
    assert sum(changed) == (word not in NOTHING and word not in DEFAULTS)
    assert found.data == ()
    if word in EXPECTED:
        assert (found.attributes.set, found.attributes.clear) == EXPECTED[word]


@pytest.mark.parametrize(("word", "other"), [*DEFAULTS.items(), ("rw", "ro")])
def test_a_word_takes_another_back(word: str, other: str) -> None:
    """A later one, that is."""
    assert parse_options((other, word)).flags == ()
    assert parse_options((word, other)).flags == (other,)


@pytest.mark.parametrize(("fstype", "bind"), [("bind", 0x1000), ("rbind", 0x5000), ("none", 0)])
def test_a_type_can_say_bind(fstype: str, bind: int) -> None:
    """As the word does, for who writes `type: bind` and no option."""
    assert parse_options(("ro",), fstype).bind == bind


def test_the_table_of_attributes_is_whole() -> None:
    """This test's own list and the code's name the same words."""
    assert set(ATTRIBUTES) == set(EXPECTED)


@pytest.mark.parametrize("word", ATTRIBUTES)
def test_an_r_before_a_word_means_the_whole_tree(word: str) -> None:
    """`rro` and its kin; a word that is one already, such as `relatime`, keeps its meaning."""
    found = parse_options((f"r{word}",))
    assert found.recursive == parse_options((word,)).attributes
    assert found.attributes == Attributes()
    assert f"r{word}" in RECURSIVE_OPTIONS


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("private", mounts.MS_PRIVATE),
        ("rprivate", mounts.MS_PRIVATE | mounts.MS_REC),
        ("slave", mounts.MS_SLAVE),
        ("rslave", mounts.MS_SLAVE | mounts.MS_REC),
        ("shared", mounts.MS_SHARED),
        ("rshared", mounts.MS_SHARED | mounts.MS_REC),
        ("unbindable", mounts.MS_UNBINDABLE),
        ("runbindable", mounts.MS_UNBINDABLE | mounts.MS_REC),
    ],
)
def test_propagation(word: str, kind: int) -> None:
    """With an r for the whole tree: mount_namespaces(7)."""
    assert parse_options((word,)).propagation == (kind,)


@given(st.lists(st.sampled_from(ATTRIBUTES)), st.integers(0, ALL_BITS))
def test_a_later_word_wins(words: list[str], before: int) -> None:
    """All words in one call do what they would do one after the other."""
    expected = before
    for word in words:
        expected = expected & ~OPTIONS[word].clear | OPTIONS[word].set
    found = parse_options(tuple(words)).attributes
    assert before & ~found.clear | found.set == expected


@given(st.lists(st.sampled_from(ATTRIBUTES)))
def test_the_kernel_takes_what_comes_out(words: list[str]) -> None:
    """mount_setattr(2): a bit is set or cleared, and the access times are cleared as a whole."""
    found = parse_options(tuple(words)).attributes
    assert found.set & found.clear & ~ATIME == 0
    assert found.clear & ATIME in (0, ATIME)
    assert not found.set & ATIME or found.clear & ATIME
    assert found.set & ATIME != ATIME


@pytest.mark.parametrize("words", list(itertools.permutations(["ro", "rro", "size=1m", "rbind"])))
def test_each_word_finds_its_call(words: tuple[str, ...]) -> None:
    """Whatever the order; what the table does not know is the filesystem's."""
    found = parse_options(tuple(words))
    assert found.attributes == found.recursive == Attributes(set=1)
    assert found.flags == ("ro",)
    assert found.data == ("size=1m",)
    assert found.bind == mounts.MS_BIND | mounts.MS_REC


@given(st.lists(st.text()))
def test_any_words_are_sorted(words: list[str]) -> None:
    """Unknown ones keep their order: the filesystem may care."""
    unknown = [word for word in words if word not in OPTIONS and word not in RECURSIVE_OPTIONS]
    assert list(parse_options(tuple(words)).data) == unknown


def test_an_engine_does_not_keep_the_options_of_all_its_containers() -> None:
    """It checks those of each: they name its directories, so no two are the same."""
    for number in range(2000):
        words = (f"upperdir=/containers/{number}",)
        assert parse_options(words, "overlay").data == words
    gc.collect()
    kept = [one for one in gc.get_objects() if isinstance(one, Options) and one.data]
    assert len(kept) < 1000
