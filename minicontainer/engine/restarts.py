"""Restart policies: whether an ended container starts again, and how long that waits.

See: `docker run` reference, "Restart policies (--restart)".
"""

from __future__ import annotations

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.config import HostConfig
    from minicontainer.engine.container import Container

POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 60.0
_GOOD_RUN_NS = 10 * 10**9  # after that long, the delay begins anew


def check(host: HostConfig) -> None:
    """Check a restart policy.

    Raises:
        InvalidArgument: in Docker's words.
    """
    policy = host.restart_policy
    if policy.name not in POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def wants_restart(container: Container, exit_code: int) -> bool:
    """Say whether the policy starts a container that has just ended."""
    policy = container.config.host_config.restart_policy
    if container.state.stopped:
        return False
    if policy.name == "on-failure":
        most = policy.maximum_retry_count
        return exit_code != 0 and (not most or container.state.restart_count < most)
    return policy.name in ("always", "unless-stopped")


def wants_start_with_engine(container: Container) -> bool:
    """Say whether the policy starts a container that does not run when the engine starts."""
    policy = container.config.host_config.restart_policy.name
    state = container.state
    if state.status == "created":
        return False
    if policy == "always":
        return True
    if state.stopped:
        return False
    return policy == "unless-stopped" or wants_restart(container, state.exit_code)


def next_delay_s(container: Container) -> float:
    """Give the seconds before the next restart: doubled each time, less after a good run."""
    state = container.state
    ran_ns = state.finished_ns - state.started_ns
    last = 0.0 if ran_ns >= _GOOD_RUN_NS else container.restart_delay_s
    container.restart_delay_s = min(max(last * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)
    return container.restart_delay_s
