"""A container comes to be: its body completed, checked, and kept; nothing runs yet.

See: Docker Engine API, ContainerCreate.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import time

from minicontainer import steps
from minicontainer.engine import (
    bundles,
    endpoints,
    health,
    image_mounts,
    log_drivers,
    merging,
    parts,
    restarts,
    runtimes,
    stops,
    working_directory,
)
from minicontainer.engine.container import Container
from minicontainer.errors import InvalidArgument, NotFound
from minicontainer.images import platforms
from minicontainer.images.config import parse_json
from minicontainer.images.copies import copy_layers
from minicontainer.images.platforms import Platform
from minicontainer.kernel import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.engine.config import ContainerConfig, HostConfig
    from minicontainer.engine.engine import Engine

    Json = dict[str, Any]


def prepare(engine: Engine, asked: Json, name: str, platform: str) -> Container:
    """Make a container of a create request; only its directory exists then.

    Args:
        asked: the request's body.
        name: checked, and free when it was looked at.
        platform: of the image, such as linux/amd64; "" for the host's.
    Raises:
        NotFound: `No such image: …`.
        InvalidArgument: a field makes no sense.
    """
    asked = parts.left_out(asked)
    _check_environment(asked)
    image_id, rootfs, image_config, warnings = "", "", None, []
    layers: tuple[str, ...] = ()
    if asked.get("Rootfs"):
        rootfs = bundles.find_rootfs(str(asked["Rootfs"]), engine.data_root)
    else:
        image = steps.take(engine.resolve_image, str(asked.get("Image") or ""), platform)
        image_id, layers = image.id, image.chain_ids
        document = parse_json(image.config_json, "image config")
        image_config = document.get("config") or {}
        if not platform and (warning := platforms.warning(Platform.from_json(document))):
            warnings.append(warning)
    body = merging.completed(asked, image_config)
    identifier = os.urandom(32).hex()
    directory = os.path.join(engine.data_root, "containers", identifier)
    _name_host(engine, body, identifier)
    body["MacAddress"] = body.get("MacAddress") or endpoints.chosen_mac(body)
    container = Container(identifier, name, body, directory)
    container.image_id, container.layers, container.rootfs = image_id, layers, rootfs
    container.created_ns, container.warnings = time.time_ns(), warnings
    with contextlib.ExitStack() as undo:
        undo.callback(engine.images.store.release, identifier)
        if image_id:  # from now on its layers stay, whoever removes the image
            engine.images.store.hold(image_id, identifier)
            steps.reach("after hold-image")
        check(engine, container)
        container.endpoints = engine.networks.requested(container.config)
        steps.take(bundles.make_directory, container)
        undo.callback(trees.remove_if_there, directory)
        lowers = engine.lowers_of(container)
        if engine.overlay_refused:
            container.copied = True
            copy_layers(lowers, f"{directory}/upper")
        else:
            bundles.dress_root(container, lowers[0])
        working_directory.make(container, lowers)
        undo.callback(engine.volumes.release, container, anonymous=True)
        engine.volumes.give(container, engine.lowers_of(container))
        image_mounts.give(engine, container)
        steps.reach("after give-volumes")
        undo.pop_all()
    return container


def _name_host(engine: Engine, body: Json, identifier: str) -> None:
    """Decide the hostname: with another's network it is that one's, with the host's the host's.

    Raises:
        InvalidArgument: the user chose one that can't be had; or there is no such container.
    """
    host = body["HostConfig"]
    kind, _, ref = str(host.get("NetworkMode")).partition(":")
    if kind == "container" and ref:
        if body["Hostname"]:
            raise InvalidArgument("conflicting options: hostname and the network mode")
        try:
            other = engine.containers.find(ref).config
        except NotFound:
            return  # `check` says so, after what rules it out in any case
        body["Hostname"], body["Domainname"] = other.hostname, other.domainname
    if body["Hostname"] or (host.get("UTSMode") or "private") != "private":
        return  # another one's name is not changed
    body["Hostname"] = os.uname().nodename if kind == "host" else identifier[:12]


def warnings_for(engine: Engine, container: Container) -> list[str]:
    """Say what a new container will not be as it was asked for."""
    refused = engine.overlay_refused
    told = f"overlay is refused here ({refused}): the image's files are copied instead"
    warnings = container.warnings + ([told] if container.copied else [])
    host = container.config.host_config
    if host.network_mode == "host" and (host.port_bindings or host.publish_all_ports):
        warnings.append("Published ports are discarded when using host network mode")
    return warnings


def check(engine: Engine, container: Container) -> None:
    """Check all that can be checked before the first start.

    Raises:
        InvalidArgument: naming the option and what it should be.
    """
    config = container.config
    restarts.check(config.host_config)
    if runtimes.program_of(config.host_config.runtime, engine.runtimes):
        _check_for_another(config.host_config)
    log_drivers.check(config.host_config.log_config)
    _check_unsupported(config)
    _check_files_in_etc(config.host_config)
    stops.signal_number(config.stop_signal)
    if config.healthcheck:
        health.check(config.healthcheck)
    isolation = container.body["HostConfig"].get("Isolation") or "default"
    if isolation != "default":
        raise InvalidArgument(f"invalid isolation ({isolation}): linux only supports 'default'")
    if config.stop_timeout is not None and config.stop_timeout < -1:
        raise InvalidArgument(f"invalid stop timeout {config.stop_timeout}: use -1 or more seconds")
    if config.host_config.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    if "" in config.host_config.annotations:
        raise InvalidArgument(
            "invalid Annotations: the empty string is not permitted as an annotation key"
        )
    engine.networks.check(config)
    engine.volumes.check(config)
    bundles.make_spec(container, engine.lowers_of(container), engine.check_joinable, ())
    endpoints.linked(config.host_config, engine.containers.find, must_run=False)


def _check_environment(asked: Json) -> None:
    for text in asked.get("Env") or ():
        if not text.partition("=")[0]:
            # Docker shows the text; it may be a secret, and goes into the log, too.
            raise InvalidArgument("invalid environment variable: expected NAME=VALUE or NAME")


def _check_files_in_etc(host: HostConfig) -> None:
    """Refuse what would be a broken line of /etc/hosts or /etc/resolv.conf."""
    for text in host.extra_hosts:
        name, colon, address = text.partition(":")
        if not (name and colon):
            raise InvalidArgument(f'bad format for add-host: "{text}"')
        if address != "host-gateway" and not _is_address(address):
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"')
    for text in host.dns:
        if not _is_address(text):
            raise InvalidArgument(f"bad nameserver address {text}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_for_another(host: HostConfig) -> None:
    """Refuse what another runtime does not know how to do."""
    for given, what in (
        (host.userns_mode == "private", "--userns private"),
        (host.without, "--without"),
        (host.init, "--init"),
    ):
        if given:
            raise InvalidArgument(f"conflicting options: {what} and the runtime {host.runtime}")


def _check_unsupported(config: ContainerConfig) -> None:
    """Refuse what can't be given here: without it, the program would fail later and elsewhere."""
    for request in config.host_config.device_requests:
        wanted = " ".join(f"[{' '.join(one)}]" for one in request.get("Capabilities") or ())
        raise InvalidArgument(
            f'could not select device driver "{request.get("Driver") or ""}" '
            f"with capabilities: [{wanted}]"
        )
    if config.host_config.storage_opt:
        raise InvalidArgument(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, "
            "and not by this engine"
        )
