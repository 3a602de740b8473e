"""Dockerfile instructions that change a config: `--change` of import and commit.

    apply({}, ['ENV A=1 B="two words"', 'CMD ["redis-server"]'])
    # {"Env": ["A=1", "B=two words"], "Cmd": ["redis-server"]}

See: Dockerfile reference; `docker commit`, "--change".
"""

from __future__ import annotations

import os
import re

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument
from minicontainer.images.references import shown
from minicontainer.images.words import environment_of, expand, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Config = dict[str, Any]  # Docker's field names

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([a-z]+))?")
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+")
_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
             "h": 3600 * 10**9}  # fmt: skip
_CHECK_TIMES = ("interval", "timeout", "start-period", "start-interval")


def apply(config: Config, lines: Iterable[str]) -> Config:
    """Give a config changed by instructions, one a line.

    Args:
        config: Docker's fields; it stays as it is.
        lines: the instructions; blank ones and comments are passed over.
    Raises:
        InvalidArgument: an instruction makes no sense here, in Docker's words where it has some.
    """
    changed = dict(config)
    cmd_is_set = False
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, rest = text.partition(" ")
        change = _CHANGES.get(name.upper())
        if change is None:
            raise InvalidArgument(f"{shown(name)} is not a valid change command")
        if not rest.strip():
            raise InvalidArgument(f"{name.upper()} requires at least one argument")
        change(changed, rest.strip())
        if name.upper() == "ENTRYPOINT" and not cmd_is_set:
            changed["Cmd"] = None  # the arguments were those of another program
        cmd_is_set = cmd_is_set or name.upper() == "CMD"
    return changed


def _json_list(text: str) -> list[str] | None:
    """Read the exec form, `["a", "b"]`; None where it is none."""
    if not text.startswith("["):
        return None
    try:
        value = jsontext.parse(text)
    except (ValueError, RecursionError):
        return None
    is_exec_form = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return value if is_exec_form else None


def _command(config: Config, text: str) -> list[str]:
    exact = _json_list(text)
    return [*(config.get("Shell") or _SHELL), text] if exact is None else exact


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(config, text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(config, text)


def _shell(config: Config, text: str) -> None:
    exact = _json_list(text)
    if not exact:
        raise InvalidArgument('SHELL requires the arguments to be in JSON form: ["/bin/sh", "-c"]')
    config["Shell"] = exact


def _expanded(config: Config, text: str) -> str:
    return expand(text, environment_of(config.get("Env")))


def _pairs(name: str, config: Config, text: str) -> list[tuple[str, str]]:
    """Read `KEY=value KEY="two words"`, or the old form of one pair, `KEY value`."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise InvalidArgument(f"{name} must have two arguments")
        return [(first[0], _expanded(config, first[1]))]
    pairs = []
    for word in split(text):
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(
                f"Syntax error - can't find = in {shown(word)!r}. Must be of the form: name=value"
            )
        key = _expanded(config, key)
        if not key:
            raise InvalidArgument(f"{name} names can not be blank")
        pairs.append((key, _expanded(config, value)))
    return pairs


def _env(config: Config, text: str) -> None:
    variables = list(config.get("Env") or ())
    for key, value in _pairs("ENV", config, text):
        entry = f"{key}={value}"
        for index, old in enumerate(variables):
            if old.partition("=")[0] == key:
                variables[index] = entry
                break
        else:
            variables.append(entry)
    config["Env"] = variables


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs("LABEL", config, text))}


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in split(text):
        asked = _expanded(config, word)
        match = _PORT.fullmatch(asked.lower())
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        protocol = (match[3] or "tcp") if match else ""
        if not 0 < first <= last < 1 << 16 or protocol not in ("tcp", "udp", "sctp"):
            raise InvalidArgument(f"invalid containerPort: {shown(asked)}")
        ports |= {f"{port}/{protocol}": {} for port in range(first, last + 1)}
    config["ExposedPorts"] = ports


def _on_build(config: Config, text: str) -> None:
    name = text.split(None, 1)[0].upper()
    if name in ("ONBUILD", "FROM", "MAINTAINER"):
        chained = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
        other = f"{name} isn't allowed as an ONBUILD trigger"
        raise InvalidArgument(chained if name == "ONBUILD" else other)
    config["OnBuild"] = [*(config.get("OnBuild") or ()), text]


def _user(config: Config, text: str) -> None:
    config["User"] = _expanded(config, text)


def _volume(config: Config, text: str) -> None:
    exact = _json_list(text)
    words = split(text) if exact is None else exact
    paths = [_expanded(config, word) for word in words]
    if "" in paths:
        raise InvalidArgument("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _working_dir(config: Config, text: str) -> None:
    joined = os.path.join(config.get("WorkingDir") or "/", _expanded(config, text))
    config["WorkingDir"] = os.path.normpath("/" + joined.lstrip("/"))


def _stop_signal(config: Config, text: str) -> None:
    config["StopSignal"] = _expanded(config, text)


def _healthcheck(config: Config, text: str) -> None:
    check: Config = {}
    rest = text
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.strip()
        name, _, value = option[2:].partition("=")
        if name in _CHECK_TIMES:
            field = "".join(part.capitalize() for part in name.split("-"))
            check[field] = _nanoseconds(name, value)
        elif name == "retries" and value.isascii() and value.isdigit():
            check["Retries"] = int(value)
        else:
            raise InvalidArgument(f"HEALTHCHECK: unknown or malformed option {shown(option)}")
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE" and not command.strip() and not check:
        check["Test"] = ["NONE"]
    elif kind.upper() == "CMD" and command.strip():
        exact = _json_list(command.strip())
        check["Test"] = ["CMD-SHELL", command.strip()] if exact is None else ["CMD", *exact]
    else:
        raise InvalidArgument(f"Unknown type {shown(kind)!r} in HEALTHCHECK (try CMD)")
    config["Healthcheck"] = check


def _nanoseconds(name: str, text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f"HEALTHCHECK: --{name}: invalid duration {shown(text)!r}")
    parts = re.findall(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)", text)
    return int(sum(float(number) * _UNITS_NS[unit] for number, unit in parts))


_CHANGES: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _working_dir,
}
