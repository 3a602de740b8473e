"""What the recipe's steps work on: the container's first process, as its parent prepared it."""

from __future__ import annotations

import os

from minicontainer.record import Record
from minicontainer.runtime.child import programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minicontainer.cgroups.hierarchies import View
    from minicontainer.runtime.config.spec import Bundle
    from minicontainer.runtime.container.state import State
    from minicontainer.runtime.sync import Channel

WANTS_REAPER = "minicontainer.init"  # an annotation: --init


class Options(Record):
    """How a container's first process is begun, beside what its specification says.

    Args:
        console: a socket that gets the terminal's master, if the specification wants a terminal.
        plain_lines: what its terminal shows goes to no terminal: lines end in a mere newline.
        detached: it outlives its parent.
        gated: its parent leaves before the program runs: it waits for another process, `start`.
        preserve_fds: how many of the caller's descriptors, from 3 on, the program inherits.
        cgroup_manager: who makes its cgroup: cgroupfs, this project itself; or systemd.
        no_pivot: the root is changed by chroot(2), for hosts whose own root is a ramfs.
        new_keyring: it leaves the caller's session keyring.
        notifies: it gets a socket where it says that it is ready: `notify`.
    """

    console: Any = None
    plain_lines: bool = False
    detached: bool = False
    gated: bool = False
    preserve_fds: int = 0
    cgroup_manager: str = "cgroupfs"
    no_pivot: bool = False
    new_keyring: bool = True
    notifies: bool = False


DEFAULTS = Options()


class Init:
    """What the steps work on, and what they learn on the way.

    Args:
        bundle: the container's;  state: and what is known of it.
        channel: to the parent.
        views: what a cgroup mount consists of.
        seccomp_filter: compiled, as BPF; b"" for none.
        options: how it is begun.
        gate: where it waits for `start`, if its parent does not stay; None: for its parent.
        copies: detached mounts that the parent made, by place in the specification's list.
        nodes: and of devices, by their path.
        tasks_files: the `tasks` files of its v1 cgroups, path and descriptor.
    """

    def __init__(
        self,
        bundle: Bundle,
        state: State,
        channel: Channel,
        views: tuple[View, ...],
        seccomp_filter: bytes = b"",
        options: Options = DEFAULTS,
        gate: Channel | None = None,
        copies: dict[int, int] | None = None,
        nodes: dict[str, int] | None = None,
        tasks_files: Iterable[tuple[str, int]] = (),
    ) -> None:
        self.bundle = bundle
        self.spec = bundle.spec
        self.state = state
        self.channel = channel
        self.views = views
        self.seccomp_filter = seccomp_filter
        self.options = options
        self.gate = gate
        self.copies = copies or {}
        self.nodes = nodes or {}
        self.tasks_files = list(tasks_files)
        self.root_fd = -1
        self.unfinished: list[int] = []  # mounts that become read-only when all is in them
        self.null_fd = -1  # the null device on a mount where it can't be changed
        self.pidfd = -1  # of the container's first process, where this is another one
        self.executable = ""
        self.env = programs.environment(self.spec.process.env)
        self.kept: object = None  # what must live until execve

    def close(self) -> None:
        """Close the parent's copies of what is init's alone; twice is once."""
        self.channel.close()
        if self.gate is not None:
            self.gate.close()
        while self.tasks_files:
            os.close(self.tasks_files.pop()[1])

    def descriptors(self) -> set[int]:
        """List those that the recipe works with; it closes those of the host on its way."""
        options = self.options
        console = () if options.console is None else (options.console.fileno(),)
        channels = (self.channel,) if self.gate is None else (self.channel, self.gate)
        pipes = (end for channel in channels for end in (channel.reads, channel.writes))
        tasks = (tasks_fd for _, tasks_fd in self.tasks_files)
        others = (
            *self.copies.values(), *self.nodes.values(), *range(3, 3 + options.preserve_fds),
        )  # fmt: skip
        return {*pipes, *console, *tasks, *others, *({self.null_fd, self.pidfd} - {-1})}
