"""Hooks: programs of somebody else that run at six points of a container's life.

    prestart         create, by the runtime: all mounts are made, the root is still the host's
    createRuntime    the same point, after those
    createContainer  then by init, in the container's namespaces; its path is the host's
    startContainer   after `start`, by init, just before the program; its path is the container's
    poststart        by the runtime: the program runs, `start` has not returned
    poststop         delete, by the runtime: nothing is left but the name

Each gets the container's state on its standard input, and its `env` alone as its environment. Where
it has no `env`, it gets, as with runc and crun, that of who runs it: the runtime's own environment,
and in the container the program's. The first that fails ends the container, but
for poststop: there, others may still have to clear up.

See: runtime-spec config.md "POSIX-platform Hooks"; runtime.md "Lifecycle".
"""

from __future__ import annotations

import posix

from minicontainer import jsontext, steps
from minicontainer.errors import InitError
from minicontainer.runtime.sync import Go, Hooking, Leaving, Mounted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from minicontainer.runtime.config.spec import Hook, Hooks
    from minicontainer.runtime.container.state import State
    from minicontainer.runtime.inputs import Init

_UMASK = 0o022


# --- by the container's first process ------------------------------------------------------------


@steps.needed_if(lambda spec: spec.hooks.prestart or spec.hooks.create_runtime)
def wait_for_runtime_hooks(init: Init) -> None:
    """Wait while the runtime runs its hooks: all mounts are made, the root is the host's still."""
    init.channel.send(Mounted())
    if not isinstance(init.channel.receive(), Go):
        raise InitError("the runtime has given up")


@steps.needed_if(lambda spec: spec.hooks.create_container)
def run_create_container_hooks(init: Init) -> None:
    """Run the host's programs in the container's namespaces, before its root is the root.

    They start in it, as with runc, and not in the bundle as the others: `./lib` is the container's.
    """
    mask = posix.umask(_UMASK)  # init's own is 0, and what a hook makes is not for everybody
    for name, hook in _named("createContainer", init.spec.hooks.create_container):
        state = init.state.as_oci("creating", posix.getpid())
        _run(name, hook, state, directory=init.bundle.rootfs, environ=init.env)
    posix.umask(mask)


@steps.needed_if(lambda spec: spec.hooks.start_container)
def run_start_container_hooks(init: Init) -> None:
    """Run the container's own programs, as its user and with all its limits.

    They are the image's, and not to be trusted more than its program: so after the filter. That
    must then let pass what runs them.
    """
    init.channel.send(Hooking())
    inherited = range(3, 3 + init.options.preserve_fds)
    for name, hook in _named("startContainer", init.spec.hooks.start_container):
        state = init.state.as_oci("created", posix.getpid())
        _run(name, hook, state, inherited=inherited, environ=init.env)
    init.channel.send(Leaving())


# --- by the runtime ------------------------------------------------------------------------------


def run_runtime_hooks(state: State, hooks: Hooks) -> None:
    """Run the host's programs in the host's namespaces: networks are made so, for example."""
    for name, hook in (
        *_named("prestart", hooks.prestart),
        *_named("createRuntime", hooks.create_runtime),
    ):
        _run(name, hook, state.as_oci("creating", state.pid), directory=state.bundle)


def run_poststart_hooks(state: State, hooks: Hooks) -> None:
    """Run what the host wants to do once the program runs."""
    for name, hook in _named("poststart", hooks.poststart):
        _run(name, hook, state.as_oci("running", state.pid), directory=state.bundle)


def run_poststop_hooks(state: State, hooks: Hooks) -> None:
    """Run what the host wants to clear up; the user is told of one that fails, and all are run.

    While the name is still taken: a container of the same name would meet what they clear up, and
    a deletion that is cut off can be done again.
    """
    for name, hook in _named("poststop", hooks.poststop):
        try:
            _run(name, hook, state.as_oci("stopped", 0), directory=state.bundle)
        except InitError as error:
            steps.warn(str(error))


def is_fatal(error: InitError) -> bool:
    """Say whether a start failed in a hook: then the container is removed, and can't be retried."""
    return error.step in (
        steps.step_name(run_start_container_hooks),
        steps.step_name(run_poststart_hooks),
    )


def _named(kind: str, hooks: tuple[Hook, ...]) -> tuple[tuple[str, Hook], ...]:
    return tuple((f"hooks.{kind}[{i}] ({hook.path})", hook) for i, hook in enumerate(hooks))


def _run(
    name: str,
    hook: Hook,
    state: dict[str, object],
    *,
    directory: str = "",
    inherited: range | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    from minicontainer.runtime import hook_process  # few containers have hooks: see `preload`

    if hook.env is None and environ is not None:  # else it inherits this process's
        hook = hook.replace(env=tuple(map("=".join, environ.items())))
    hook_process.run(name, hook, jsontext.dump(state).encode(), directory, inherited)
