"""Filters, loaded for real in a child; compiled programs, against what the profile says."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import struct
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicontainer import steps
from minicontainer.errors import InvalidArgument, KernelError
from minicontainer.kernel import seccomp, seccomp_compiler
from minicontainer.kernel.seccomp import ArgRule, Seccomp, SyscallRule, cached_program, load
from minicontainer.kernel.seccomp_compiler import ACTIONS, ARCHITECTURES, compile_profile
from minicontainer.runtime.seccomp_profile import default_profile

if TYPE_CHECKING:
    from collections.abc import Callable

pyseccomp = pytest.importorskip("pyseccomp", reason="pyseccomp with libseccomp is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="CAP_SYS_ADMIN: run as root")

KILLED_BY_SIGSYS = -31
ALLOWED = ACTIONS["SCMP_ACT_ALLOW"]
MACHINES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
OWN = ARCHITECTURES[MACHINES[os.uname().machine]]
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def number(name: str, arch: int = OWN) -> int:
    """Give a call's number, as libseccomp knows it."""
    return int(pyseccomp.resolve_syscall(arch, name))


def name_of(nr: int) -> str:
    """Name the call with a number; "" where the architecture has none."""
    try:
        return pyseccomp.resolve_syscall(OWN, nr).decode()  # type: ignore[no-any-return]  # untyped
    except ValueError:
        return ""


def in_child(act: Callable[[], int]) -> int:
    """Do *act* in a child and give what it returned (0 to 254), or the signal, negative."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            status = act()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status != 255, "the child failed: see its traceback"
    return status


def make_call(name: str, *args: int) -> Callable[[], int]:
    """Make a function that makes a system call and gives its error number, or 0."""
    words = [ctypes.c_long(number(name)), *map(ctypes.c_ulong, args)]
    return lambda: ctypes.get_errno() if libc.syscall(*words) == -1 else 0


def filtered(program: bytes, act: Callable[[], int], flags: int = 0) -> Callable[[], int]:
    """Make a function that loads *program* and then does *act*."""

    def loaded() -> int:
        load(program, flags)
        return act()

    return loaded


@pytest.fixture(scope="module")
def default_program() -> bytes:
    """Compile the default profile for a container without capabilities."""
    return compile_profile(default_profile(()))


# What the default profile refuses, with arguments that the kernel itself answers in another way.
REFUSED = [
    ("mount", 0, 0, 0, 0, 0),
    ("umount2", 0, 0),
    ("unshare", CLONE_NEWUSER),
    ("setns", 2**31, 0),
    ("keyctl", 0, 2**31, 0),
    ("bpf", 0, 0, 0),
    ("io_uring_setup", 0, 0),
    ("perf_event_open", 0, 0, 0, 0, 0),
    ("open_by_handle_at", 2**31, 0, 0),
    ("personality", 0x0040000),  # ADDR_NO_RANDOMIZE
    ("socket", socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    ("socket", socket.AF_VSOCK | 2**32, socket.SOCK_STREAM, 0),  # of which the kernel takes 32 bits
    ("clone", CLONE_NEWUSER | 17, 0, 0, 0, 0),
]


@needs_root
@pytest.mark.parametrize("call", REFUSED, ids=lambda call: f"{call[0]}-{call[1]:#x}")
def test_the_default_profile_refuses(default_program: bytes, call: tuple[Any, ...]) -> None:
    """EPERM, where the kernel would have done it or complained of something else."""
    refused = make_call(*call)
    assert in_child(filtered(default_program, refused)) == errno.EPERM
    assert in_child(refused) != errno.EPERM, "the control: without the filter"


@needs_root
def test_the_default_profile_hides_clone3(default_program: bytes) -> None:
    """C libraries fall back to clone(2) at ENOSYS alone; without the filter it is EINVAL."""
    clone3 = make_call("clone3", 0, 0)
    assert in_child(filtered(default_program, clone3)) == errno.ENOSYS
    assert in_child(clone3) == errno.EINVAL


@needs_root
@pytest.mark.parametrize(
    "call",
    [
        ("personality", 0),
        ("personality", 0xFFFFFFFF),
        ("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        ("sysinfo", ctypes.addressof(ctypes.create_string_buffer(256))),
        ("sched_yield",),
    ],
    ids=lambda call: f"{call[0]}-{len(call)}",
)
def test_the_default_profile_allows(default_program: bytes, call: tuple[Any, ...]) -> None:
    """What programs do every day."""
    assert in_child(filtered(default_program, make_call(*call))) == 0


@needs_root
def test_a_filtered_process_can_fork(default_program: bytes) -> None:
    """clone(2) without a flag for a namespace."""
    assert in_child(filtered(default_program, lambda: in_child(lambda: 7))) == 7


@needs_root
@pytest.mark.parametrize(
    ("capability", "call", "kernels_answer"),
    [
        ("CAP_SYS_ADMIN", ("mount", 0, 0, 0, 0, 0), errno.EINVAL),
        ("CAP_SYS_ADMIN", ("clone3", 0, 0), errno.EINVAL),
        ("CAP_BPF", ("bpf", 0, 0, 0), errno.EINVAL),
        ("CAP_SYS_CHROOT", ("chroot", 0), errno.EFAULT),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_capability_opens_its_calls(
    capability: str, call: tuple[Any, ...], kernels_answer: int
) -> None:
    """The call gets to the kernel, which then judges it."""
    tried = make_call(*call)
    unfiltered = in_child(tried)
    program = compile_profile(default_profile([capability]))
    assert in_child(filtered(program, tried)) == unfiltered
    assert unfiltered in (kernels_answer, errno.EFAULT)


# --- who may load ---------------------------------------------------------------------------


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


@needs_root
def test_a_privileged_process_needs_no_new_privs_not(default_program: bytes) -> None:
    """CAP_SYS_ADMIN is enough, and no_new_privs stays as it was: setuid programs still work."""

    def act() -> int:
        load(default_program, 0)
        return int(libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))

    assert in_child(act) == 0


@needs_root
def test_an_unprivileged_process_needs_no_new_privs(default_program: bytes) -> None:
    """Otherwise it could lie to a setuid program: EACCES, and nothing is loaded."""

    def act() -> int:
        _become_nobody()
        try:
            load(default_program, 0)
        except KernelError as error:
            return error.errno or 0
        return 0

    assert in_child(act) == errno.EACCES


@needs_root
def test_no_new_privs_is_enough_for_an_unprivileged_process(default_program: bytes) -> None:
    """As nobody, without a capability; the filter answers ENOSYS where the kernel says EINVAL."""
    clone3 = make_call("clone3", 0, 0)

    def act() -> int:
        _become_nobody()
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        load(default_program, 0)
        return clone3()

    assert in_child(act) == errno.ENOSYS


@needs_root
@pytest.mark.parametrize("program", [b"", b"\0" * 8, b"\xff" * 16], ids=["empty", "load", "junk"])
def test_what_is_no_program_is_refused(program: bytes) -> None:
    """The kernel checks each instruction, and that the program ends."""

    def act() -> int:
        try:
            load(program, 0)
        except KernelError as error:
            return error.errno or 0
        return 0

    assert in_child(act) == errno.EINVAL


@needs_root
def test_loading_is_noted(default_program: bytes) -> None:
    """One event, with the process's filter as its object."""

    def act() -> int:
        events: list[steps.Event] = []
        steps.listen(events.append, "init")
        load(default_program, 0)
        return [(event.call, event.object) for event in events] == [("seccomp", "process:seccomp")]

    assert in_child(act) == 1


# --- actions, flags, the listener -----------------------------------------------------------


@needs_root
@pytest.mark.parametrize(
    ("action", "errno_ret", "expected"),
    [
        ("SCMP_ACT_ERRNO", None, errno.EPERM),
        ("SCMP_ACT_ERRNO", 71, 71),
        ("SCMP_ACT_KILL", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_KILL_THREAD", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_KILL_PROCESS", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_TRAP", None, KILLED_BY_SIGSYS),
        ("SCMP_ACT_TRACE", None, errno.ENOSYS),  # nobody traces
        ("SCMP_ACT_LOG", None, 0),
        ("SCMP_ACT_ALLOW", None, 0),
    ],
)
def test_each_action_does_what_it_says(action: str, errno_ret: int | None, expected: int) -> None:
    """On one harmless call, in a profile that allows all others."""
    rule = SyscallRule(names=("sched_yield",), action=action, errno_ret=errno_ret)
    program = compile_profile(Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule,)))
    assert in_child(filtered(program, make_call("sched_yield"))) == expected


@needs_root
def test_a_notifying_profile_gives_a_listener() -> None:
    """A descriptor on which another process could hear of each call."""
    rule = SyscallRule(names=("sched_yield",), action="SCMP_ACT_NOTIFY")
    profile = Seccomp(
        default_action="SCMP_ACT_ALLOW", syscalls=(rule,), listener_path="/run/a.sock",
        flags=("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
    )  # fmt: skip
    program = compile_profile(profile)

    def act() -> int:
        listener = load(program, seccomp.filter_flags(profile))
        return "seccomp notify" in os.readlink(f"/proc/self/fd/{listener}")

    assert in_child(act) == 1


def test_flags_are_summed_up() -> None:
    """By default those of other runtimes; named ones as <linux/seccomp.h> numbers them."""
    profile = Seccomp(default_action="SCMP_ACT_ALLOW")
    assert seccomp.filter_flags(profile) == 4
    assert seccomp.filter_flags(profile.replace(flags=())) == 0
    named = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC")
    assert seccomp.filter_flags(profile.replace(flags=named)) == 3


# --- the program, against the profile ---------------------------------------------------------


def decide(program: bytes, arch: int, nr: int, args: tuple[int, ...] = ()) -> int:
    """Run a filter's program as the kernel would, on one call; see the classic BPF of bpf(4)."""
    data = struct.pack("=IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *args, *[0] * (6 - len(args)))
    code = [*struct.iter_unpack("=HBBI", program)]
    a, at = 0, 0
    while True:
        op, if_true, if_false, k = code[at]
        at += 1
        match op:
            case 0x20:  # ld [k]
                (a,) = struct.unpack_from("=I", data, k)
            case 0x54:  # and k
                a &= k
            case 0x05:  # ja k
                at += k
            case 0x15 | 0x25 | 0x35 | 0x45:  # jeq, jgt, jge, jset
                holds = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[op]
                at += if_true if holds else if_false
            case 0x06:  # ret k
                return int(k)
            case _:
                raise AssertionError(f"an instruction that libseccomp does not use: {op:#x}")


def holds(arg: ArgRule, value: int) -> bool:
    """Say whether a condition holds, as libseccomp documents it."""
    match arg.op.removeprefix("SCMP_CMP_"):
        case "NE":
            return value != arg.value
        case "LT":
            return value < arg.value
        case "LE":
            return value <= arg.value
        case "EQ":
            return value == arg.value
        case "GE":
            return value >= arg.value
        case "GT":
            return value > arg.value
        case _:
            return value & arg.value == arg.value_two


NAMES = [name for nr in range(335) for name in [name_of(nr)] if name]
SMALL = st.integers(0, 5)
NUMBERS = st.one_of(SMALL, st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]))
EVERY_OPERATOR = [*seccomp_compiler.OPERATORS]
Rules = list[tuple[ArgRule, ...]]


@st.composite
def conditions(
    draw: st.DrawFn, operators: list[str], numbers: st.SearchStrategy[int], most: int
) -> tuple[ArgRule, ...]:
    """Make up to *most* conditions, each on an argument of its own."""
    made = []
    for i in draw(st.lists(st.integers(0, 5), unique=True, max_size=most)):
        value, op = draw(numbers), draw(st.sampled_from(operators))
        made.append(ArgRule(index=i, value=value, value_two=value & draw(numbers), op=op))
    return tuple(made)


# libseccomp 2.5 joins several rules for one call into one tree, and gets some of them wrong: those
# that order numbers above 32 bits, or have several conditions with other operators than these.
RULES = st.one_of(
    st.lists(conditions(EVERY_OPERATOR, NUMBERS, 3), min_size=1, max_size=1),
    st.lists(conditions(["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"], NUMBERS, 3), min_size=2, max_size=3),
    st.lists(conditions(EVERY_OPERATOR, SMALL, 1), min_size=2, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(
    rules=st.dictionaries(st.sampled_from(NAMES), RULES, max_size=50),
    calls=st.lists(st.tuples(st.sampled_from(NAMES), st.tuples(*[NUMBERS] * 6)), max_size=60),
)
def test_a_program_decides_as_its_profile(
    rules: dict[str, Rules], calls: list[tuple[str, tuple[int, ...]]]
) -> None:
    """Any profile, any calls: allowed where all conditions of one of its rules hold."""
    profile = Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=77,
        syscalls=tuple(
            SyscallRule(names=(name,), action="SCMP_ACT_ALLOW", args=args)
            for name, alternatives in rules.items()
            for args in alternatives
        ),
    )
    program = compile_profile(profile)
    newest = max(map(number, rules), default=2**32)
    for name, args in [*calls, *((name, args) for name in rules for _, args in calls[:3])]:
        allowed = any(
            all(holds(condition, args[condition.index]) for condition in alternative)
            for alternative in rules.get(name, ())
        )
        refusal = errno.ENOSYS if number(name) > newest else 77
        expected = ALLOWED if allowed else ACTIONS["SCMP_ACT_ERRNO"] | refusal
        assert decide(program, OWN, number(name), args) == expected, (name, args)


@pytest.mark.parametrize("above", [0, 2**32, 2**63], ids=hex)
def test_the_default_profiles_conditions_hold_for_every_number(
    default_program: bytes, above: int
) -> None:
    """Several rules for one call, as libseccomp joins them; the kernel's families end at 45."""

    def allowed(name: str, value: int) -> bool:
        return decide(default_program, OWN, number(name), (value | above,)) == ALLOWED

    families = {family for family in range(100) if allowed("socket", family)}
    assert families == (set() if above else {*range(46)} - {socket.AF_ALG, socket.AF_VSOCK})
    personalities = {0, 8, 0x20000, 0x20008, 0xFFFFFFFF}
    tried = {1 << bit for bit in range(32)} | {value ^ 1 for value in personalities} | personalities
    assert {value for value in tried if allowed("personality", value)} == (
        set() if above else personalities
    )
    namespaces = {1 << bit for bit in range(32) if not allowed("clone", 1 << bit | 17)}
    assert namespaces == {0x20000, *(1 << bit for bit in range(25, 31))}


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    """As runtimes have always read them, though libseccomp would join them."""
    args = tuple(ArgRule(index=0, value=value, op="SCMP_CMP_EQ") for value in (2, 5))
    rule = SyscallRule(names=("close",), action="SCMP_ACT_ALLOW", args=args)
    program = compile_profile(Seccomp(default_action="SCMP_ACT_KILL", syscalls=(rule,)))
    assert [decide(program, OWN, number("close"), (fd,)) == ALLOWED for fd in range(7)] == [
        False, False, True, False, False, True, False,
    ]  # fmt: skip


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the compatible ABIs of x86_64")
@pytest.mark.parametrize("name", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
def test_each_architecture_is_filtered_by_its_own_numbers(
    default_program: bytes, name: str
) -> None:
    """mount(2) is 165, 21 and 1073741989: what is refused in one ABI is not reached by another."""
    arch = ARCHITECTURES[name]
    seen_as = OWN if name == "SCMP_ARCH_X32" else arch
    refused, newer = (ACTIONS["SCMP_ACT_ERRNO"] | code for code in (errno.EPERM, errno.ENOSYS))
    for call, expected in (("read", ALLOWED), ("mount", refused), ("keyctl", refused)):
        assert decide(default_program, seen_as, number(call, arch)) == expected
    assert decide(default_program, seen_as, number("read", arch) | 0x7FFF) == newer


def test_an_architecture_that_is_not_listed_is_killed(default_program: bytes) -> None:
    """A program for another machine's ABI can't slip through with numbers of its own."""
    riscv = ARCHITECTURES["SCMP_ARCH_RISCV64"]
    assert decide(default_program, riscv, 63) == ACTIONS["SCMP_ACT_KILL"]


@needs_root
@pytest.mark.parametrize(("above", "answer"), [(True, errno.ENOSYS), (False, errno.EPERM)])
def test_calls_newer_than_the_profile_look_missing(above: bool, answer: int) -> None:
    """So that C libraries fall back to older calls: ENOSYS above the newest that is named."""
    # The calls that the child itself needs to report how it went.
    names = ("exit_group", "futex", "munmap", "mmap", "brk", "rt_sigprocmask", "write", "getrandom")
    tried = "pidfd_getfd" if above else "sync"
    assert (number(tried) > max(map(number, names))) == above
    rule = SyscallRule(names=names, action="SCMP_ACT_ALLOW")
    program = compile_profile(Seccomp(default_action="SCMP_ACT_ERRNO", syscalls=(rule,)))
    assert in_child(filtered(program, make_call(tried, 0, 0, 0))) == answer


def test_calls_that_libseccomp_does_not_know_are_passed_over() -> None:
    """A profile may be newer than the library, and older than some calls' removal."""
    allow = SyscallRule(names=("read",), action="SCMP_ACT_ALLOW")
    newer = SyscallRule(names=("read", "no_such_call"), action="SCMP_ACT_ALLOW")
    plain, passed_over = (
        compile_profile(Seccomp(default_action="SCMP_ACT_ERRNO", syscalls=(rule,)))
        for rule in (allow, newer)
    )
    assert plain == passed_over


# --- bad profiles -----------------------------------------------------------------------------

READ = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"defaultAction": "ALLOW"}, "linux.seccomp.defaultAction: expected one of SCMP_ACT_KILL"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY can't be the default"),
        (
            {"defaultErrnoRet": 1, "defaultAction": "SCMP_ACT_KILL"},
            "linux.seccomp.defaultErrnoRet:",
        ),
        ({"architectures": ["amd64"]}, "linux.seccomp.architectures[0]: expected one of"),
        ({"architectures": ["SCMP_ARCH_S390X"]}, "libseccomp can't filter SCMP_ARCH_S390X"),
        ({"flags": ["LOG"]}, "linux.seccomp.flags[0]: expected one of SECCOMP_FILTER_FLAG_TSYNC"),
        ({"listenerMetadata": "x"}, "linux.seccomp.listenerMetadata: must not be set"),
        ({"syscalls": [{**READ, "names": []}]}, "linux.seccomp.syscalls[0].names: expected"),
        ({"syscalls": [READ, {**READ, "action": "DENY"}]}, "linux.seccomp.syscalls[1].action:"),
        ({"syscalls": [{**READ, "errnoRet": 1}]}, "linux.seccomp.syscalls[0].errnoRet:"),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536}]},
            "linux.seccomp.syscalls[0].errnoRet: expected 0 to 65535, got 65536",
        ),
        (
            {"syscalls": [{**READ, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
            "linux.seccomp.syscalls[0].args[0].index: expected 0 to 5, got 6",
        ),
        (
            {"syscalls": [{**READ, "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}]},
            "linux.seccomp.syscalls[0].args[0].value:",
        ),
        (
            {"syscalls": [{**READ, "args": [{"index": 0, "value": 0, "op": "=="}]}]},
            "linux.seccomp.syscalls[0].args[0].op: expected one of SCMP_CMP_NE",
        ),
        (
            {"syscalls": [{**READ, "action": "SCMP_ACT_NOTIFY"}]},
            "linux.seccomp.listenerPath: is required",
        ),
        (
            {"syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}], "listenerPath": "/s"},
            "linux.seccomp.syscalls[0].names: write can't have SCMP_ACT_NOTIFY",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_profile_is_refused_by_its_path(change: dict[str, Any], complaint: str) -> None:
    """What, where, and what was expected."""
    document = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [READ], **change}
    profile = Seccomp.from_json(document, "linux.seccomp")
    with pytest.raises(InvalidArgument) as caught:
        compile_profile(profile), seccomp.filter_flags(profile)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


# --- programs that are kept -------------------------------------------------------------------

PROFILE = Seccomp(
    default_action="SCMP_ACT_ERRNO",
    syscalls=(SyscallRule(names=("read", "write"), action="SCMP_ACT_ALLOW"),),
)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Seccomp]:
    """Count what is compiled."""
    calls: list[Seccomp] = []

    def counted(profile: Seccomp) -> bytes:
        calls.append(profile)
        return compile_profile(profile)

    monkeypatch.setattr(seccomp_compiler, "compile_profile", counted)
    return calls


def _kept_in(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_a_program_is_compiled_once(tmp_path: Path, compiled: list[Seccomp]) -> None:
    """The second start reads what the first one kept, and gets the same."""
    directory = tmp_path / "seccomp"
    first = cached_program(PROFILE, str(directory))
    assert cached_program(PROFILE.replace(), str(directory)) == first == compile_profile(PROFILE)
    assert compiled == [PROFILE]
    assert _kept_in(directory).stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "change",
    [
        {"default_action": "SCMP_ACT_KILL"},
        {"default_errno_ret": 5},
        {"architectures": (MACHINES[os.uname().machine],)},
        {"syscalls": ()},
        {"syscalls": (SyscallRule(names=("read", "writev"), action="SCMP_ACT_ALLOW"),)},
        {"syscalls": (SyscallRule(names=("read", "write"), action="SCMP_ACT_LOG"),)},
        {"syscalls": (SyscallRule(names=("read",), action="SCMP_ACT_ERRNO", errno_ret=3),)},
        *(
            {"syscalls": (SyscallRule(names=("read", "write"), action="SCMP_ACT_ALLOW", args=a),)}
            for a in (
                (ArgRule(index=0, value=1, op="SCMP_CMP_EQ"),),
                (ArgRule(index=1, value=1, op="SCMP_CMP_EQ"),),
                (ArgRule(index=0, value=2, op="SCMP_CMP_EQ"),),
                (ArgRule(index=0, value=1, op="SCMP_CMP_NE"),),
                (ArgRule(index=0, value=1, value_two=1, op="SCMP_CMP_MASKED_EQ"),),
                (ArgRule(index=0, value=1, value_two=0, op="SCMP_CMP_MASKED_EQ"),),
            )
        ),
    ],
    ids=str,
)
def test_another_profile_is_another_program(
    tmp_path: Path, compiled: list[Seccomp], change: dict[str, Any]
) -> None:
    """Whatever decides the program is in its name."""
    cached_program(PROFILE, str(tmp_path))
    other = PROFILE.replace(**change)
    assert cached_program(other, str(tmp_path)) == compile_profile(other)
    assert compiled == [PROFILE, other]


def _flip(at: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return flip


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _give_away(path: Path) -> None:
    os.chown(path, 65534, 65534)


def _make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HARM: dict[str, Callable[[Path], object]] = {
    "digest": _flip(0),
    "origins": _flip(40),
    "program": _flip(-1),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\6\0\0\0\0\0\xff\x7f"),
    "empty": lambda path: path.write_bytes(b""),
    "all zero": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "writable by others": lambda path: path.chmod(0o602),
    "writable by the group": lambda path: path.chmod(0o620),
    "directory writable by others": lambda path: path.parent.chmod(0o777),
    "another's": _give_away,
    "a symbolic link": _link,
    "a named pipe": _make_a_pipe,
}


@needs_root
@pytest.mark.parametrize("harm", HARM)
def test_what_can_not_be_trusted_is_made_anew(
    tmp_path: Path, compiled: list[Seccomp], harm: str
) -> None:
    """Never a weaker filter, never a failed start; and what can be mended is."""
    directory = tmp_path / "seccomp"
    program = cached_program(PROFILE, str(directory))
    HARM[harm](_kept_in(directory))
    assert cached_program(PROFILE, str(directory)) == program
    assert len(compiled) == 2
    cached_program(PROFILE, str(directory))
    assert len(compiled) == (3 if "directory" in harm else 2)


def test_a_program_under_anothers_name_is_not_taken(
    tmp_path: Path, compiled: list[Seccomp]
) -> None:
    """The digest covers the name: a weaker program of ours can't be slipped in by renaming."""
    weaker = PROFILE.replace(default_action="SCMP_ACT_ALLOW", syscalls=())
    cached_program(weaker, str(tmp_path))
    kept = _kept_in(tmp_path)
    shutil.move(kept, tmp_path / "aside")
    cached_program(PROFILE, str(tmp_path))
    (other,) = (path for path in tmp_path.iterdir() if path.name != "aside")
    shutil.copy(tmp_path / "aside", other)
    assert cached_program(PROFILE, str(tmp_path)) == compile_profile(PROFILE)
    assert len(compiled) == 3


def test_a_changed_library_compiles_anew(
    tmp_path: Path, compiled: list[Seccomp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mended libseccomp makes other programs, though its version may read the same."""
    library = tmp_path / "libseccomp.so.2"
    library.write_bytes(b"one")
    monkeypatch.setattr(seccomp_compiler, "made_from", lambda: (str(library),))
    directory = str(tmp_path / "seccomp")
    cached_program(PROFILE, directory)
    cached_program(PROFILE, directory)
    assert len(compiled) == 1
    library.write_bytes(b"two")
    cached_program(PROFILE, directory)
    assert len(compiled) == 2
    library.unlink()
    cached_program(PROFILE, directory)
    assert len(compiled) == 3


def test_the_library_is_one_of_the_origins() -> None:
    """The file itself, not a link to it."""
    library, binding, compiler = seccomp_compiler.made_from()
    assert "libseccomp.so" in library
    assert not os.path.islink(library)
    assert binding == pyseccomp.__file__
    assert compiler == seccomp_compiler.__file__


def test_a_directory_that_can_not_be_made_costs_only_time(tmp_path: Path) -> None:
    """Here a file stands in its way; a full disk ends in the same place."""
    (tmp_path / "file").touch()
    assert cached_program(PROFILE, str(tmp_path / "file" / "seccomp")) == compile_profile(PROFILE)
