"""From the parsed options of create and run to the body of Docker's create request.

See: Docker Engine API, ContainerCreate.
"""

from __future__ import annotations

from minicontainer import jsontext
from minicontainer.cli import ports, run_values
from minicontainer.cli.create_options import CREATE_OPTIONS
from minicontainer.cli.environment import environment, lines_of
from minicontainer.cli.exits import EXIT_ENGINE, Exit
from minicontainer.cli.mount_values import fields
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicontainer.cli.flags import Asked

_HEALTH = {
    "health_interval": "Interval", "health_timeout": "Timeout", "health_retries": "Retries",
    "health_start_period": "StartPeriod", "health_start_interval": "StartInterval",
}  # fmt: skip
_SHELL = "/bin/sh"
_PREDEFINED = ("default", "bridge", "host", "none")  # modes of the network that nobody has made
_AS_OBJECT = ("annotation", "storage-opt", "sysctl", "tmpfs")


def body_of(asked: Asked) -> dict[str, Any]:
    """Put the body together.

    Raises:
        Exit: options that do not fit together, or a file that can't be read: status 125.
    """
    try:
        return _body(asked)
    except InvalidArgument as error:
        raise Exit(str(error), EXIT_ENGINE, prefix=True) from None


def _body(asked: Asked) -> dict[str, Any]:
    host: dict[str, Any] = {"NetworkMode": "default"}
    body: dict[str, Any] = {"HostConfig": host}
    for option in CREATE_OPTIONS:
        flag = option.flag
        if option.member and flag.dest in asked.given:
            value = getattr(asked, flag.dest)
            place = host if option.member.startswith("HostConfig.") else body
            known = dict(value) if flag.name in _AS_OBJECT else value
            place[option.member.removeprefix("HostConfig.")] = known
    if "rootfs" in asked.given:
        body["Rootfs"], command = directory(asked.rootfs), asked.args
        if not command and not asked.entrypoint:
            command = [_SHELL]  # an image would name its program
    else:
        body["Image"], *command = asked.args
    if command:
        body["Cmd"] = command
    if "entrypoint" in asked.given:
        body["Entrypoint"] = [asked.entrypoint]
    body["Env"] = environment(asked.env, asked.env_file, asked.session.environ)
    body["Env"] += _proxies(asked, body["Env"])
    if labels := _labels(asked):
        body["Labels"] = labels
    if asked.mac_address:
        body["MacAddress"] = asked.mac_address
    _set_streams(body, asked)
    _set_volumes(body, asked.volume)
    _set_ports(body, asked)
    _set_devices(host, asked.device)
    _set_security(host, asked.security_opt)
    _set_health(body, asked)
    _set_log(host, asked)
    _set_networks(body, asked)
    if asked.rm and host.get("RestartPolicy", {}).get("Name", "no") not in ("", "no"):
        raise InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    return body


def directory(text: str) -> str:
    """Give the root file system as the engine finds it: a path from /, or a built one's name.

    The engine works in another directory than this process.
    """
    if not text:
        raise InvalidArgument("--rootfs: name a directory, or what rootfs/NAME built: busybox")
    import os  # a millisecond, for two options

    return os.path.abspath(text) if "/" in text or os.path.isdir(text) else text


def _set_streams(body: dict[str, Any], asked: Asked) -> None:
    """Say which streams this client stays connected to."""
    wanted = asked.attach or ["stdout", "stderr", *(["stdin"] if asked.interactive else [])]
    for name in ("stdin", "stdout", "stderr"):
        body[f"Attach{name.title()}"] = name in wanted
    body["StdinOnce"] = bool(asked.interactive and body["AttachStdin"])


def _proxies(asked: Asked, env: list[str]) -> list[str]:
    """Give the proxies that Docker's config.json sets for containers."""
    known = asked.session.config.get("proxies") or {}
    proxies = known.get(asked.session.address.url) or known.get("default") or {}
    names = {"httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "noProxy": "NO_PROXY",
             "ftpProxy": "FTP_PROXY", "allProxy": "ALL_PROXY"}  # fmt: skip
    taken = {text.partition("=")[0] for text in env}
    return [
        f"{name}={proxies[key]}"
        for key, upper in names.items()
        for name in (upper, upper.lower())
        if proxies.get(key) and name not in taken
    ]


def _labels(asked: Asked) -> dict[str, str]:
    lines = [line for path in asked.label_file for _, line in lines_of(path, "label")]
    return dict((*map(run_values.label, lines), *asked.label))


def _set_volumes(body: dict[str, Any], volumes: list[str]) -> None:
    """Tell binds and named volumes, which have a source, from anonymous volumes."""
    binds = []
    anonymous: dict[str, dict[str, str]] = {}
    for text in volumes:
        source, colon, rest = text.partition(":")
        if not colon:
            anonymous[text] = {}
            continue
        if source.startswith("."):
            import os  # as above

            source = os.path.abspath(source)
        binds.append(f"{source}:{rest}")
    if binds:
        body["HostConfig"]["Binds"] = binds
    if anonymous:
        body["Volumes"] = anonymous


def _set_ports(body: dict[str, Any], asked: Asked) -> None:
    exposed: dict[str, dict[str, str]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in asked.publish:
        for port, address, host_port in ports.publish(text):
            exposed[port] = {}
            bindings.setdefault(port, []).append({"HostIp": address, "HostPort": host_port})
    for text in asked.expose:
        for port in ports.expose(text):
            exposed[port] = {}
    if exposed:
        body["ExposedPorts"] = exposed
    if bindings:
        body["HostConfig"]["PortBindings"] = bindings


def _set_devices(host: dict[str, Any], devices: list[str]) -> None:
    """Tell devices by path from those that a vendor names: nvidia.com/gpu=0."""
    named = [text for text in devices if not text.startswith("/") and "=" in text]
    plain = [run_values.device(text) for text in devices if text not in named]
    if plain:
        host["Devices"] = plain
    if named:
        host.setdefault("DeviceRequests", []).append({"Driver": "cdi", "DeviceIDs": named})


def _set_security(host: dict[str, Any], options: list[str]) -> None:
    """Read the file of a seccomp profile; take away what only the client knows."""
    found = []
    for text in options:
        key, separator, value = text.partition("=" if "=" in text else ":")
        if not separator and key != "no-new-privileges":
            raise InvalidArgument(f"invalid --security-opt: {text}")
        if key == "systempaths" and value == "unconfined":
            host["MaskedPaths"] = host["ReadonlyPaths"] = []
        elif key == "seccomp" and value not in ("unconfined", "builtin"):
            found.append(f"seccomp={_profile(value)}")
        else:
            found.append(text)
    if found:
        host["SecurityOpt"] = found


def _profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return jsontext.dump(jsontext.parse(file.read()))
    except OSError as error:
        why = (error.strerror or "").lower()
        raise InvalidArgument(f"opening seccomp profile ({path}) failed: {why}") from None
    except ValueError as error:
        raise InvalidArgument(
            f"compacting json for seccomp profile ({path}) failed: {error}"
        ) from None


def _set_health(body: dict[str, Any], asked: Asked) -> None:
    chosen = {_HEALTH[key]: getattr(asked, key) for key in _HEALTH if key in asked.given}
    given = {key: value for key, value in chosen.items() if value}  # 0 is what the image says
    if asked.no_healthcheck:
        if given or asked.health_cmd:
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options")
        body["Healthcheck"] = {"Test": ["NONE"]}
    elif given or asked.health_cmd:
        test = {"Test": ["CMD-SHELL", asked.health_cmd]} if asked.health_cmd else {}
        body["Healthcheck"] = {**test, **given}


def _set_log(host: dict[str, Any], asked: Asked) -> None:
    if asked.log_driver == "none" and asked.log_opt:
        raise InvalidArgument("invalid logging opts for driver none")
    if asked.log_driver or asked.log_opt:
        host["LogConfig"] = {"Type": asked.log_driver, "Config": dict(asked.log_opt)}


def _set_networks(body: dict[str, Any], asked: Asked) -> None:
    """Put what is said of the networks together; what has no network of its own is the first's."""
    wanted = [_network(text) for text in asked.network] or [("default", {})]
    name, first = wanted[0]
    ipam = {"IPv4Address": asked.ip, "IPv6Address": asked.ip6, "LinkLocalIPs": asked.link_local_ip}
    given = {key: value for key, value in ipam.items() if value}
    if given:
        first["IPAMConfig"] = {**first.get("IPAMConfig", {}), **given}
    if asked.network_alias:
        first["Aliases"] = [*first.get("Aliases", ()), *asked.network_alias]
    if asked.link and name not in ("default", "bridge"):
        first["Links"] = [*first.get("Links", ()), *asked.link]
    _check_networks(wanted)
    if asked.mac_address:
        first.setdefault("MacAddress", asked.mac_address)
    if len({name for name, _ in wanted}) < len(wanted):
        raise InvalidArgument(f'network "{name}" is specified multiple times')
    body["HostConfig"]["NetworkMode"] = name
    if len(wanted) > 1 or first:
        body["NetworkingConfig"] = {"EndpointsConfig": dict(wanted)}


def _check_networks(wanted: list[tuple[str, dict[str, Any]]]) -> None:
    """Refuse what only networks of users offer, where there is another one."""
    others = [settings for name, settings in wanted if not _is_users(name)]
    if 0 < len(others) < len(wanted):
        raise InvalidArgument(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    if any(settings.get("Aliases") for settings in others):
        raise InvalidArgument("network-scoped aliases are only supported for user-defined networks")


def _is_users(network: str) -> bool:
    """Say whether a mode of the network names one that a user has made."""
    return network not in _PREDEFINED and not network.startswith(("container:", "ns:"))


def _network(text: str) -> tuple[str, dict[str, Any]]:
    """Read --network: a name, or name=NAME,alias=ALIAS,ip=ADDRESS."""
    if "=" not in text:
        return text, {}
    name = ""
    found: dict[str, Any] = {}
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise InvalidArgument(f"invalid field {field}")
        if key == "name":
            name = value
        else:
            _set_endpoint(found, key, value)
    if not name:
        raise InvalidArgument("network name/id is not specified")
    return name, found


def _set_endpoint(found: dict[str, Any], key: str, value: str) -> None:
    """Set what one key of --network says of the container's place in the network."""
    ipam = {"ip": "IPv4Address", "ip6": "IPv6Address"}
    if key == "alias":
        found.setdefault("Aliases", []).append(value)
    elif key in ipam:
        found.setdefault("IPAMConfig", {})[ipam[key]] = value
    elif key == "link-local-ip":
        found.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
    elif key == "mac-address":
        found["MacAddress"] = value
    elif key == "driver-opt":
        option, _, setting = value.partition("=")
        found.setdefault("DriverOpts", {})[option] = setting
    elif key == "gw-priority" and value.removeprefix("-").isdecimal():
        found["GwPriority"] = int(value)
    else:
        raise InvalidArgument(f"invalid field key {key}")
