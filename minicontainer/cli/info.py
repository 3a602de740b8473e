"""version and info: what this client is, and what engine and host it speaks to."""

from __future__ import annotations

import os
import sys

from minicontainer import startup
from minicontainer.cli import units
from minicontainer.cli.client import EngineError
from minicontainer.cli.exits import Exit, Lost
from minicontainer.cli.flags import Asked, Flag, command
from minicontainer.cli.inspect import writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMAT = Flag(name="format", letter="f", help="'json', or a Go template")
_API = "1.50"


def _client_facts() -> dict[str, Any]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "Version": startup.VERSION, "ApiVersion": _API, "DefaultAPIVersion": _API,
        "Os": "linux", "Arch": machine, "Context": "default",
        "PythonVersion": sys.version.partition(" ")[0],
    }  # fmt: skip


@command("", _FORMAT, most=0)
def version(asked: Asked) -> int:
    """Show the version information."""
    found: dict[str, Any] = {"Client": _client_facts(), "Server": None}
    problem = ""
    try:
        found["Server"] = asked.session.client.get("/version")
    except (Lost, EngineError) as error:
        problem = str(error)
    except Exit as error:  # nothing to start an engine with, or for
        problem = str(error)
    if asked.format:
        write = writer("{{json .}}" if asked.format == "json" else asked.format)
        assert write is not None
        sys.stdout.write(write(found) + "\n")
    else:
        sys.stdout.write(_version_text(found))
    if problem:
        raise Exit(problem)
    return 0


def _version_text(found: dict[str, Any]) -> str:
    client, server = found["Client"], found["Server"]
    api = client["ApiVersion"]
    if server and _number(server["ApiVersion"]) < _number(api):
        api = f"{server['ApiVersion']} (downgraded from {api})"
    rows = [
        ("Version", client["Version"]), ("API version", api),
        ("Python version", client["PythonVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"), ("Context", client["Context"]),
    ]  # fmt: skip
    lines = ["Client:", *_aligned(1, 18, rows)]
    if server:
        name = (server.get("Platform") or {}).get("Name", "")
        lines += ["", f"Server: {name}".rstrip()]
        for component in server.get("Components") or ():
            lines += [f" {component['Name']}:", *_component(component)]
    return "\n".join(lines) + "\n"


def _component(component: dict[str, Any]) -> list[str]:
    details = dict(component.get("Details") or {})
    if component["Name"] != "Engine":
        rows = [("Version", component["Version"]), ("GitCommit", details.get("GitCommit", ""))]
        return _aligned(2, 17, rows)
    minimum = details.get("MinAPIVersion", "")
    rows = [
        ("Version", component["Version"]),
        ("API version", f"{details.get('ApiVersion', '')} (minimum version {minimum})"),
        ("Go version", details.get("GoVersion", "")), ("Git commit", details.get("GitCommit", "")),
        ("Built", _built(details.get("BuildTime", ""))),
        ("OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"),
        ("Experimental", details.get("Experimental", "false")),
    ]  # fmt: skip
    return _aligned(2, 17, [row for row in rows if row[1]])


def _built(text: str) -> str:
    """Write a time as version does: Thu May  7 21:09:36 2026."""
    import time

    try:
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(units.parse_time(text)))
    except ValueError:
        return text


def _aligned(indent: int, width: int, rows: Any) -> list[str]:
    blank = " " * indent
    return [f"{blank}{name + ':':<{width}} {value}" for name, value in rows]


def _number(version_text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version_text.split(".") if part.isdecimal())


@command("", _FORMAT, most=0)
def info(asked: Asked) -> int:
    """Display system-wide information."""
    facts = asked.session.client.get("/info")
    if asked.format:
        write = writer("{{json .}}" if asked.format == "json" else asked.format)
        assert write is not None
        shown = {**facts, "ClientInfo": _client_facts()}
        sys.stdout.write(write(shown) + "\n")
        return 0
    lines = ["Client:", f" Version:    {startup.VERSION}", " Context:    default",
             " Debug Mode: false", "", "Server:", *_info_lines(facts)]  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n\n")
    for warning in facts.get("Warnings") or ():
        sys.stderr.write(f"{warning}\n")
    return 0


def _info_lines(facts: dict[str, Any]) -> list[str]:
    return [*_containers(facts), *_drivers(facts), *_host(facts), *_settings(facts)]


def _containers(facts: dict[str, Any]) -> list[str]:
    lines = [
        f" Containers: {facts.get('Containers', 0)}",
        f"  Running: {facts.get('ContainersRunning', 0)}",
        f"  Paused: {facts.get('ContainersPaused', 0)}",
        f"  Stopped: {facts.get('ContainersStopped', 0)}",
        f" Images: {facts.get('Images', 0)}",
    ]
    named = (("ServerVersion", "Server Version"), ("Driver", "Storage Driver"))
    lines += [f" {title}: {facts[name]}" for name, title in named if facts.get(name)]
    lines += [f"  {name}: {value}" for name, value in facts.get("DriverStatus") or ()]
    return lines


_DRIVERS = (
    ("LoggingDriver", "Logging Driver"), ("CgroupDriver", "Cgroup Driver"),
    ("CgroupVersion", "Cgroup Version"),
)  # fmt: skip


def _drivers(facts: dict[str, Any]) -> list[str]:
    lines = [f" {title}: {facts[name]}" for name, title in _DRIVERS if facts.get(name)]
    plugins = facts.get("Plugins") or {}
    lines.append(" Plugins:")
    lines += [
        f"  {kind}: {' '.join(plugins[kind])}"
        for kind in ("Volume", "Network", "Authorization", "Log")
        if plugins.get(kind)
    ]
    lines.append(f" Swarm: {(facts.get('Swarm') or {}).get('LocalNodeState', 'inactive')}")
    if facts.get("Runtimes"):
        # A map in Go: Docker's client prints its names in any order.
        lines.append(f" Runtimes: {' '.join(sorted(facts['Runtimes']))}")
    named = (("DefaultRuntime", "Default Runtime"), ("InitBinary", "Init Binary"))
    lines += [f" {title}: {facts[name]}" for name, title in named if facts.get(name)]
    for name, title in (
        ("ContainerdCommit", "containerd"),
        ("RuncCommit", "runc"),
        ("InitCommit", "init"),
    ):
        if name in facts:
            lines.append(f" {title} version: {(facts[name] or {}).get('ID', '')}")
    if facts.get("SecurityOptions"):
        lines += [" Security Options:", *_security(facts["SecurityOptions"])]
    return lines


def _security(options: list[str]) -> list[str]:
    """Write `name=seccomp,profile=default` as a line, and one below it for each setting."""
    lines = []
    for option in options:
        pairs = [field.partition("=")[::2] for field in option.split(",")]
        for key, value in pairs:
            shown = f"  {value}" if key == "name" else f"   {key.title()}: {value}"
            lines.append(shown)
    return lines


_HOST = (
    ("KernelVersion", "Kernel Version"), ("OperatingSystem", "Operating System"),
    ("OSType", "OSType"), ("Architecture", "Architecture"), ("NCPU", "CPUs"),
)  # fmt: skip
_PLACE = (("Name", "Name"), ("ID", "ID"), ("DockerRootDir", "Docker Root Dir"))
_PROXIES = (("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy"))


def _host(facts: dict[str, Any]) -> list[str]:
    lines = [f" {title}: {facts[name]}" for name, title in _HOST if name in facts]
    lines.append(f" Total Memory: {units.binary_size(facts.get('MemTotal', 0))}")
    lines += [f" {title}: {facts[name]}" for name, title in _PLACE if facts.get(name)]
    lines.append(f" Debug Mode: {_truth(facts.get('Debug'))}")
    lines += [f" {title}: {facts[name]}" for name, title in _PROXIES if facts.get(name)]
    return lines


def _settings(facts: dict[str, Any]) -> list[str]:
    lines = (
        [" Labels:", *(f"  {label}" for label in facts["Labels"])] if facts.get("Labels") else []
    )
    lines.append(f" Experimental: {_truth(facts.get('ExperimentalBuild'))}")
    registries = facts.get("RegistryConfig") or {}
    insecure = [
        name
        for name, entry in (registries.get("IndexConfigs") or {}).items()
        if not entry.get("Secure", True)
    ]
    insecure += registries.get("InsecureRegistryCIDRs") or []
    if insecure:
        lines += [" Insecure Registries:", *(f"  {name}" for name in insecure)]
    if registries.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {name}" for name in registries["Mirrors"])]
    lines.append(f" Live Restore Enabled: {_truth(facts.get('LiveRestoreEnabled'))}")
    return lines


def _truth(value: object) -> str:
    return "true" if value else "false"
