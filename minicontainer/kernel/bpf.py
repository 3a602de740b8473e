"""BPF programs that decide about devices, attached to a cgroup v2 directory: bpf(2)."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_uint32, c_uint64

from minicontainer.kernel import libc

# linux/bpf.h
BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_DETACH = 5, 8, 9
BPF_PROG_GET_FD_BY_ID, BPF_PROG_QUERY = 13, 16
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_MOST_PROGRAMS = 64  # on one cgroup; the kernel's limit


class _Load(ctypes.Structure):
    """The part of union bpf_attr that BPF_PROG_LOAD reads."""

    _fields_ = (
        ("prog_type", c_uint32), ("insn_cnt", c_uint32), ("insns", c_uint64),
        ("license", c_uint64), ("log_level", c_uint32), ("log_size", c_uint32),
        ("log_buf", c_uint64),
    )  # fmt: skip


class _Attach(ctypes.Structure):
    """The part that BPF_PROG_ATTACH and BPF_PROG_DETACH read."""

    _fields_ = (
        ("target_fd", c_uint32), ("attach_bpf_fd", c_uint32), ("attach_type", c_uint32),
        ("attach_flags", c_uint32),
    )  # fmt: skip


class _Query(ctypes.Structure):
    """The part that BPF_PROG_QUERY reads and fills in."""

    _fields_ = (
        ("target_fd", c_uint32), ("attach_type", c_uint32), ("query_flags", c_uint32),
        ("attach_flags", c_uint32), ("prog_ids", c_uint64), ("prog_cnt", c_uint32),
    )  # fmt: skip


class _ById(ctypes.Structure):
    """The part that BPF_PROG_GET_FD_BY_ID reads."""

    _fields_ = (("id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32))


def load_device_program(instructions: bytes) -> int:
    """Load a device program; return its descriptor. The kernel verifies it first.

    Args:
        instructions: 8 bytes each.
    Raises:
        KernelError: EPERM without CAP_BPF or CAP_SYS_ADMIN; EINVAL, EACCES if it is refused.
    """
    text = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"Apache-2.0")
    asked = _Load(
        prog_type=_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt=len(instructions) // 8,
        insns=ctypes.addressof(text),
        license=ctypes.addressof(license_),
    )
    return libc.call("bpf", BPF_PROG_LOAD, asked, ctypes.sizeof(asked), object="bpf:device-program")


def attach_device_program(cgroup: int, program: int, name: str) -> None:
    """Attach a program to a cgroup. To use a device, all programs on it and above must allow it.

    Args:
        cgroup, program: descriptors.
        name: of the cgroup, for the event.
    Raises:
        KernelError: EPERM if a program above forbids others; EBADF for a cgroup of v1.
    """
    asked = _Attach(
        target_fd=cgroup,
        attach_bpf_fd=program,
        attach_type=_ATTACH_CGROUP_DEVICE,
        attach_flags=_ALLOW_MULTI,
    )
    libc.call(
        "bpf", BPF_PROG_ATTACH, asked, ctypes.sizeof(asked),
        object=f"cgroup:{name}", shell=f"bpftool cgroup attach {name} device PROGRAM multi",
    )  # fmt: skip


def detach_device_program(cgroup: int, identity: int, name: str) -> None:
    """Detach the program with the id *identity* from a cgroup.

    Raises:
        KernelError: ENOENT if it is not attached.
    """
    by_id = _ById(id=identity)
    program = libc.quiet_call("bpf", BPF_PROG_GET_FD_BY_ID, by_id, ctypes.sizeof(by_id))
    try:
        asked = _Attach(target_fd=cgroup, attach_bpf_fd=program, attach_type=_ATTACH_CGROUP_DEVICE)
        libc.call(
            "bpf", BPF_PROG_DETACH, asked, ctypes.sizeof(asked),
            object=f"cgroup:{name}", shell=f"bpftool cgroup detach {name} device id {identity}",
        )  # fmt: skip
    finally:
        os.close(program)


def device_programs(cgroup: int) -> tuple[int, ...]:
    """List the ids of the device programs attached to this very cgroup."""
    ids = (c_uint32 * _MOST_PROGRAMS)()
    asked = _Query(
        target_fd=cgroup,
        attach_type=_ATTACH_CGROUP_DEVICE,
        prog_ids=ctypes.addressof(ids),
        prog_cnt=_MOST_PROGRAMS,
    )
    libc.quiet_call("bpf", BPF_PROG_QUERY, asked, ctypes.sizeof(asked))
    return tuple(ids[: asked.prog_cnt])
