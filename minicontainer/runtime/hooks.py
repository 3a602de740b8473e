"""Hooks: programs that the caller wants to run at six points of a container's life.

    prestart         create, by the runtime: all mounts are made, the root is still the host's
    createRuntime    the same point, after those
    createContainer  then by init, in the container's namespaces; its path is the host's
    startContainer   after `start`, by init, just before the program; its path is the container's
    poststart        by the runtime: the program runs, `start` has not returned
    poststop         delete, by the runtime: nothing is left but the name

A hook reads the container's state from its standard input. Its environment is its `env`; if it has
none, it inherits one, as with runc and crun: the runtime's, or inside the container the program's.
The first hook that fails ends the container. A poststop hook that fails does not keep the next
ones from running, since they may have to clean up too.

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
    """Wait for the runtime's hooks: all mounts are made, and the root is still the host's."""
    init.channel.send(Mounted())
    if not isinstance(init.channel.receive(), Go):
        raise InitError("the runtime has given up")


@steps.needed_if(lambda spec: spec.hooks.create_container)
def run_create_container_hooks(init: Init) -> None:
    """Run the host's programs in the container's namespaces, before the root changes.

    Their working directory is the root file system, as with runc, and not the bundle as for the
    others:
    a relative path such as `./lib` is the container's.
    """
    mask = posix.umask(_UMASK)  # init's own is 0, too wide for what a hook makes
    for name, hook in _named("createContainer", init.spec.hooks.create_container):
        state = init.state.as_oci("creating", posix.getpid())
        _run(name, hook, state, directory=init.bundle.rootfs, environ=init.env)
    posix.umask(mask)


@steps.needed_if(lambda spec: spec.hooks.start_container)
def run_start_container_hooks(init: Init) -> None:
    """Run the container's own programs, as its user and with all its limits.

    They come from the image, and deserve no more trust than its program: so they run under the
    filter, which must then permit the calls that start a hook.
    """
    init.channel.send(Hooking())
    inherited = range(3, 3 + init.options.preserve_fds)
    for name, hook in _named("startContainer", init.spec.hooks.start_container):
        state = init.state.as_oci("created", posix.getpid())
        _run(name, hook, state, inherited=inherited, environ=init.env)
    init.channel.send(Leaving())


# --- by the runtime ------------------------------------------------------------------------------


def run_runtime_hooks(state: State, hooks: Hooks) -> None:
    """Run the host's programs in the host's namespaces; a network is connected this way, for
    example.
    """
    for name, hook in (
        *_named("prestart", hooks.prestart),
        *_named("createRuntime", hooks.create_runtime),
    ):
        _run(name, hook, state.as_oci("creating", state.pid), directory=state.bundle)


def run_poststart_hooks(state: State, hooks: Hooks) -> None:
    """Run the host's programs that wait until the container's program runs."""
    for name, hook in _named("poststart", hooks.poststart):
        _run(name, hook, state.as_oci("running", state.pid), directory=state.bundle)


def run_poststop_hooks(state: State, hooks: Hooks) -> None:
    """Run the host's programs that clean up; warn about each one that fails, and run the rest.

    The container's name is still taken then: a new container of that name could otherwise meet what
    they clean up. And a deletion that was interrupted can be repeated.
    """
    for name, hook in _named("poststop", hooks.poststop):
        try:
            _run(name, hook, state.as_oci("stopped", 0), directory=state.bundle)
        except InitError as error:
            steps.warn(str(error))


def is_fatal(error: InitError) -> bool:
    """Report whether a start failed in a hook: the container is then removed, and can't be started
    again.
    """
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

    if hook.env is None and environ is not None:  # otherwise it inherits this process's environment
        hook = hook.replace(env=tuple(map("=".join, environ.items())))
    hook_process.run(name, hook, jsontext.dump(state).encode(), directory, inherited)
