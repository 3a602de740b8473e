"""Device rules: the program for v2, run by a small interpreter, and the list for v1."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.cgroups.device_filter import Rules, for_v1, program
from minicontainer.cgroups.limits import DeviceRule
from minicontainer.errors import InvalidArgument, Unsupported

DENY_ALL = DeviceRule(allow=False)
_WORD = 2**64 - 1


def run(text: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Run a device program as the kernel would, with bpf's own meaning of each operation."""
    asked = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = struct.pack("=III", asked << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers, at = [0] * 11, 0
    while True:
        operation, both, jump, number = struct.unpack_from("=BBhi", text, at * 8)
        dst, src, at = both & 15, both >> 4, at + 1
        if operation == 0x61:
            registers[dst] = struct.unpack_from("=I", context, jump)[0]
        elif operation == 0xBF:
            registers[dst] = registers[src]
        elif operation == 0xB7:
            registers[dst] = number & _WORD
        elif operation == 0x57:
            registers[dst] &= number & _WORD
        elif operation == 0x77:
            registers[dst] >>= number
        elif operation in (0x15, 0x55):
            at += jump if (registers[dst] == number & _WORD) == (operation == 0x15) else 0
        else:
            assert operation == 0x95
            return registers[0] == 1


def expected(rules: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """Decide letter by letter: the last rule that matches it, or else a denial."""

    def one(letter: str) -> bool:
        for rule in reversed(rules):
            if (
                rule.type in ("a", kind)
                and rule.major in (None, -1, major)
                and rule.minor in (None, -1, minor)
                and letter in rule.access
            ):
                return rule.allow
        return False

    return all(map(one, access))


numbers = st.sampled_from([None, -1, 0, 1, 3, 2**31 - 1])
letters = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
rule_lists = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        type=st.sampled_from("abc"),
        major=numbers,
        minor=numbers,
        access=letters,
    ),
    max_size=8,
)
devices = st.tuples(
    st.sampled_from("bc"), st.sampled_from([0, 1, 3]), st.sampled_from([0, 1, 3]), letters
)


@given(rule_lists, devices)
@pytest.mark.oci("linux.resources.devices")
def test_the_program_decides_as_the_rules_say(
    rules: list[DeviceRule], asked: tuple[str, int, int, str]
) -> None:
    """The later rule wins, for each of read, write and mknod by itself."""
    assert run(program(Rules(rules)), *asked) == expected(rules, *asked)


@given(rule_lists, devices)
@pytest.mark.oci("linux.resources.devices")
def test_the_list_of_v1_decides_likewise_or_is_refused(
    rules: list[DeviceRule], asked: tuple[str, int, int, str]
) -> None:
    """v1: a default, and exceptions from it."""
    wanted = Rules(rules)
    try:
        listed = for_v1(wanted)
    except Unsupported:
        return
    exceptions = [DENY_ALL.replace(allow=wanted.default)]
    for device, access in listed:
        kind, _, pair = device.partition(" ")
        major, minor = (None if n == "*" else int(n) for n in pair.split(":"))
        exceptions.append(
            DeviceRule(allow=not wanted.default, type=kind, major=major, minor=minor, access=access)
        )
    assert expected(exceptions, *asked) == expected(rules, *asked)


def test_a_rule_for_everything_forgets_those_before() -> None:
    """It is the default from there on."""
    rules = Rules([DeviceRule(allow=True, type="c", major=1), DENY_ALL])
    assert not rules.default
    assert rules.exceptions == []


def test_v1_can_not_except_from_an_exception() -> None:
    """The kernel would pass over such a rule without a word, and the device stay allowed."""
    all_of_1 = DeviceRule(allow=True, type="c", major=1)
    one_less = DeviceRule(allow=False, type="c", major=1, minor=3, access="w")
    with pytest.raises(Unsupported, match=r"c 1:3 w is part of an earlier c 1:\*"):
        for_v1(Rules([DENY_ALL, all_of_1, one_less]))


@pytest.mark.parametrize(
    "rule",
    [
        DeviceRule(allow=True, type="p"),
        DeviceRule(allow=True, access="rx"),
        DeviceRule(allow=True, type="c", major=2**31),
    ],
)
def test_a_rule_without_sense_is_refused(rule: DeviceRule) -> None:
    """Named by what is wrong with it."""
    with pytest.raises(InvalidArgument, match=r"linux\.resources\.devices: (type|access|number)"):
        Rules([rule])
