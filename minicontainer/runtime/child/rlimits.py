"""The steps that set resource limits: getrlimit(2).

A limit of memory or files that is enough for the program may be too small for this process, with
its interpreter and its open files. Such a limit is set by the last step before the program, when
only that step's own call is left.
"""

from __future__ import annotations

import errno

from minicontainer import steps
from minicontainer.errors import KernelError
from minicontainer.kernel import process
from minicontainer.runtime.config.spec_process import RLIMIT_INFINITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.config.spec import Spec
    from minicontainer.runtime.config.spec_process import Rlimit
    from minicontainer.runtime.inputs import Init

_STRANGLING = frozenset(
    ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")
)
_CALL = "prlimit64"
_ALLOW = "SCMP_ACT_ALLOW"


@steps.needed_if(lambda spec: spec.process.rlimits)
def set_rlimits(init: Init) -> None:
    """Set the resource limits, while CAP_SYS_RESOURCE may still be held to raise one.

    A limit that would stop a later step is first raised as far as necessary, and set by the last
    step.
    """
    for limit in init.spec.process.rlimits:
        soft, hard = asked = _numbers(limit)
        if _comes_last(limit, init.spec):
            now_soft, now_hard = process.get_rlimit(limit.type)
            if not _is_above(hard, now_hard):
                continue
            soft = now_soft
        _set(limit.type, soft, hard, asked)


@steps.needed_if(lambda spec: any(_comes_last(limit, spec) for limit in spec.process.rlimits))
def set_last_rlimits(init: Init) -> None:
    """Set the limits of memory and files that might be too small for this process itself."""
    for limit in init.spec.process.rlimits:
        if _comes_last(limit, init.spec):
            _set(limit.type, *_numbers(limit), _numbers(limit))


def _comes_last(limit: Rlimit, spec: Spec) -> bool:
    """Report whether a limit is for the last step, and the filter permits that step's call."""
    if limit.type not in _STRANGLING:
        return False
    profile = spec.linux.seccomp
    if profile is None or spec.process.no_new_privileges:  # the filter comes after that step
        return True
    if profile.default_action == _ALLOW:
        return not any(_CALL in rule.names for rule in profile.syscalls)
    return any(_CALL in rule.names and rule.action == _ALLOW for rule in profile.syscalls)


def _numbers(limit: Rlimit) -> tuple[int, int]:
    soft, hard = (-1 if n == RLIMIT_INFINITY else n for n in (limit.soft, limit.hard))
    return soft, hard


def _is_above(limit: int, other: int) -> bool:
    return other != -1 and (limit == -1 or limit > other)


def _set(name: str, soft: int, hard: int, asked: tuple[int, int]) -> None:
    try:
        process.set_rlimit(name, soft, hard)
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        raise KernelError(
            error.errno,
            "above the hard limit here, which only CAP_SYS_RESOURCE may raise: use a lower one",
            f"{name} {asked[0]}:{asked[1]}",
        ) from None
