"""The agent of a seccomp filter: the process that answers the calls which the filter stops.

A rule with SCMP_ACT_NOTIFY stops a call until an agent has answered it. The agent listens at the
socket `linux.seccomp.listenerPath`, and gets there the filter's listener, a descriptor. These are
the steps that do this; `listener` has the mechanism.

See: seccomp_unotify(2); runtime-spec config-linux.md "The Container Process State".
"""

from __future__ import annotations

from minicontainer import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.kernel.seccomp import Seccomp
    from minicontainer.runtime.container.state import State
    from minicontainer.runtime.sync import Channel, Filtering


def hand_listener_over(channel: Channel, state: State, status: str) -> None:
    """Send a filter's listener to its agent, once the process at the other end has one.

    Args:
        state: the container's;  status: its status at that time.
    """
    channel.on_filtering = lambda asked, pid: steps.take(
        send_listener, asked, channel, pid, state, status
    )


def send_listener(asked: Filtering, channel: Channel, pid: int, state: State, status: str) -> None:
    """Send the listener of a filter to the agent, which answers the calls that the filter stops.

    The parent does it: whatever the process under the filter calls, the filter may stop it.
    """
    from minicontainer.runtime.parent import listener  # sockets: few filters have one

    listener.hand_over(asked, channel, pid, state, status)


def find_agent(profile: Seccomp) -> None:
    """Check that an agent waits for the listener of a filter that is loaded last, in `start`.

    If none does, `create` fails, as it does with a filter that init has loaded by now. Not earlier,
    since a hook may have started the agent.
    """
    from minicontainer.runtime.parent import listener  # sockets: few filters have one

    listener.check_agent(profile.listener_path or "")
