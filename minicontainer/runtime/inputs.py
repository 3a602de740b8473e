"""What the recipe's steps work on: the inputs of the container's first process."""

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

# An annotation: --init. A path is what process 1 shows as its name.
WANTS_REAPER = "minicontainer.init"


class Options(Record):
    """How a container's first process is started: everything that is not in its specification.

    Args:
        console: a socket that receives the terminal's master, if the specification wants a
            terminal.
        plain_lines: its output goes to no terminal: lines end in a newline without a return.
        detached: the process outlives its parent.
        for_parent: the process becomes a child of this one's parent, which will hold the container
            (`taken`).
        gated: the parent leaves before the program runs; init waits for another process, `start`.
        preserve_fds: how many of the caller's descriptors, from 3 on, the program inherits.
        cgroup_manager: who makes the cgroup: cgroupfs (this project itself), systemd, or
            disabled (nobody).
        no_pivot: change the root by chroot(2), for hosts whose own root is a ramfs.
        new_keyring: leave the caller's session keyring.
        notifies: give the program a socket where it reports that it is ready: `notify`.
        meanwhile: called while init works, with the cgroup; what it raises fails the start.
    """

    console: Any = None
    plain_lines: bool = False
    detached: bool = False
    for_parent: bool = False
    gated: bool = False
    preserve_fds: int = 0
    cgroup_manager: str = "cgroupfs"
    no_pivot: bool = False
    new_keyring: bool = True
    notifies: bool = False
    meanwhile: Any = None


DEFAULTS = Options()


class Init:
    """The inputs of the steps, and what a step leaves for a later one.

    Args:
        bundle: the container's bundle;  state: its state, as saved.
        channel: to the parent.
        views: the directories that a cgroup mount consists of.
        seccomp_filter: compiled, as BPF; b"" for none.
        options: how the process is started.
        gate: where it waits for `start`, if its parent leaves; None if it waits for the parent.
        copies: detached mounts that the parent made, by their index in the specification's list.
        nodes: detached mounts of devices, by the device's path.
        tasks_files: the `tasks` files of its v1 cgroups: path and descriptor.
        waits: begin when the parent has done its part from outside, and says Go.
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
        waits: bool = True,
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
        self.waits = waits
        self.root_fd = -1
        self.unfinished: list[int] = []  # mounts that become read-only once everything is in them
        self.null_fd = -1  # the null device, on a mount where nobody can change it
        self.pidfd = -1  # of the container's first process, in `exec`
        self.executable = ""
        self.env = programs.environment(self.spec.process.env)
        self.kept: object = None  # must not be freed before execve

    def close(self) -> None:
        """Close the parent's copies of the descriptors that only init uses; a second call does
        nothing.
        """
        self.channel.close()
        if self.gate is not None:
            self.gate.close()
        while self.tasks_files:
            os.close(self.tasks_files.pop()[1])

    def descriptors(self) -> set[int]:
        """List the descriptors that the recipe works with. The other ones are closed first."""
        options = self.options
        console = () if options.console is None else (options.console.fileno(),)
        channels = (self.channel,) if self.gate is None else (self.channel, self.gate)
        pipes = (end for channel in channels for end in (channel.reads, channel.writes))
        tasks = (tasks_fd for _, tasks_fd in self.tasks_files)
        others = (
            *self.copies.values(), *self.nodes.values(), *range(3, 3 + options.preserve_fds),
        )  # fmt: skip
        return {*pipes, *console, *tasks, *others, *({self.null_fd, self.pidfd} - {-1})}
