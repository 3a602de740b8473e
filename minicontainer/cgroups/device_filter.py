"""Device rules: their meaning, and the program that applies them on cgroup v2.

On v1 the devices controller keeps a list. On v2 there is none: the kernel calls a BPF program at
every open(2) and mknod(2) of a device. See: kernel cgroup-v2.rst "Device controller"; bpf(2).
"""

from __future__ import annotations

import struct

from minicontainer.cgroups.limits import DeviceRule
from minicontainer.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/bpf.h: the arguments of the program
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*


class Rules:
    """Rules, reduced to a default and exceptions from it, in order.

    Attributes:
        default: whether a device without an exception is allowed.
        exceptions: of type b or c.
    """

    def __init__(self, rules: Iterable[DeviceRule]) -> None:
        self.default = False  # a list of devices allows these and no others
        self.exceptions: list[DeviceRule] = []
        for rule in rules:
            _check(rule)
            kinds = ("b", "c") if rule.type == "a" else (rule.type,)
            all_numbers = _number(rule.major) is None and _number(rule.minor) is None
            if rule.type == "a" and all_numbers and set(rule.access or "rwm") == set(_ACCESS):
                self.default = rule.allow
                self.exceptions.clear()  # earlier rules have no effect any more
            else:
                self.exceptions += [
                    rule.replace(
                        type=kind, major=_number(rule.major), minor=_number(rule.minor),
                        access="".join(c for c in "rwm" if c in (rule.access or "rwm")),
                    )
                    for kind in kinds
                ]  # fmt: skip


def for_v1(rules: Rules) -> list[tuple[str, str]]:
    """Return the exceptions as v1 can hold them: type and numbers, and letters of rwm.

    v1 keeps one list of exceptions, all allowing or all denying. A rule of the other kind removes
    letters from an equal exception; from a wider one the kernel silently removes nothing.

    Raises:
        Unsupported: a rule would have to be removed from a wider one.
    """
    listed: dict[tuple[str, int | None, int | None], str] = {}
    for rule in rules.exceptions:
        device = (rule.type, rule.major, rule.minor)
        if rule.allow != rules.default:
            listed[device] = listed.get(device, "") + rule.access
            continue
        for other, access in listed.items():
            if other != device and _overlap(other, device) and set(access) & set(rule.access):
                raise Unsupported(
                    f"linux.resources.devices: {_words(device)} {rule.access} is part of an "
                    f"earlier {_words(other)}, and cgroup v1 makes no exception from an "
                    "exception: list what remains"
                )
        left = "".join(c for c in listed.get(device, "") if c not in rule.access)
        if left:
            listed[device] = left
        else:
            listed.pop(device, None)
    return [
        (_words(device), "".join(c for c in "rwm" if c in access))
        for device, access in listed.items()
    ]


def _overlap(
    one: tuple[str, int | None, int | None], other: tuple[str, int | None, int | None]
) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _words(device: tuple[str, int | None, int | None]) -> str:
    kind, *numbers = device
    return f"{kind} {':'.join('*' if number is None else str(number) for number in numbers)}"


def _number(value: int | None) -> int | None:
    """Read -1 as None, which is every number: engines write both."""
    return None if value in (None, -1) else value


def _check(rule: DeviceRule) -> None:
    if rule.type not in ("a", "b", "c"):
        raise InvalidArgument(
            f"linux.resources.devices: type {rule.type!r}: expected a (all), b (block) or "
            "c (character)"
        )
    if set(rule.access) - set(_ACCESS):
        raise InvalidArgument(
            f"linux.resources.devices: access {rule.access!r}: expected letters of rwm"
        )
    for number in (rule.major, rule.minor):
        if number is not None and not -1 <= number < 2**31:
            raise InvalidArgument(
                f"linux.resources.devices: number {number}: expected 0 to {2**31 - 1}, "
                "or -1 for all"
            )


# ---- the program ------------------------------------------------------------------------------

# Registers, and the instructions that the program uses: linux/bpf_common.h. Each is eight bytes:
# operation, two registers of four bits, a signed 16-bit jump, a signed 32-bit number.
_R0, _R1, _TYPE, _LEFT, _MAJOR, _MINOR, _SCRATCH = range(7)
_LOAD = 0x61  # dst = *(u32 *)(src + jump)
_COPY, _SET = 0xBF, 0xB7  # dst = src; dst = number
_AND, _SHIFT_RIGHT = 0x57, 0x77  # with a number
_SKIP_UNLESS_EQUAL, _SKIP_IF_EQUAL = 0x55, 0x15  # dst compared with the number
_EXIT = 0x95


def _do(operation: int, dst: int = 0, src: int = 0, jump: int = 0, number: int = 0) -> bytes:
    return struct.pack("=BBhi", operation, dst | src << 4, jump, number)


def program(rules: Rules) -> bytes:
    """Write the program: it returns 1 (allowed) or 0.

    It keeps the letters of rwm that are still undecided, and goes through the exceptions from the
    last to the first, since later ones win. An allowing exception removes its letters. A denying
    one that has any of the remaining letters returns 0. Letters left at the end get the default.
    """
    text = [
        # struct bpf_cgroup_dev_ctx: access << 16 | type; major; minor
        _do(_LOAD, _TYPE, _R1, 0),
        _do(_COPY, _LEFT, _TYPE),
        _do(_AND, _TYPE, number=0xFFFF),
        _do(_SHIFT_RIGHT, _LEFT, number=16),
        _do(_LOAD, _MAJOR, _R1, 4),
        _do(_LOAD, _MINOR, _R1, 8),
    ]
    for rule in reversed(rules.exceptions):
        text += _exception(rule)
    return b"".join([*text, *_answer(rules.default)])


def _exception(rule: DeviceRule) -> list[bytes]:
    letters = sum(_ACCESS[letter] for letter in rule.access)
    if rule.allow:
        act = [
            _do(_AND, _LEFT, number=~letters),
            _do(_SKIP_UNLESS_EQUAL, _LEFT, jump=2, number=0),
            *_answer(True),
        ]
    else:
        act = [
            _do(_COPY, _SCRATCH, _LEFT),
            _do(_AND, _SCRATCH, number=letters),
            _do(_SKIP_IF_EQUAL, _SCRATCH, jump=2, number=0),
            *_answer(False),
        ]
    wanted = [(_TYPE, _TYPES[rule.type]), (_MAJOR, rule.major), (_MINOR, rule.minor)]
    tests = [(register, number) for register, number in wanted if number is not None]
    # a test that fails skips the remaining tests and the act
    skips = range(len(act) + len(tests) - 1, len(act) - 1, -1)
    return [
        *(
            _do(_SKIP_UNLESS_EQUAL, register, jump=skip, number=number)
            for (register, number), skip in zip(tests, skips, strict=True)
        ),
        *act,
    ]


def _answer(allowed: bool) -> list[bytes]:
    return [_do(_SET, _R0, number=int(allowed)), _do(_EXIT)]
