"""The log drivers: json-file, local, journald and none, and their options.

See: Docker's "Configure logging drivers"; `log_files` for what is written.
"""

from __future__ import annotations

import os
import re

from minicontainer.engine.journal_log import SOCKET
from minicontainer.engine.protocol import LogOptions
from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.engine.config import LogConfig
    from minicontainer.engine.container import Container

# What each driver takes with --log-opt; the first two as bytes and as a count.
_ATTRIBUTES = ("labels", "labels-regex", "env", "env-regex", "tag")
_OPTIONS = {
    "json-file": ("max-size", "max-file", "compress", "mode", "max-buffer-size", *_ATTRIBUTES),
    "local": ("max-size", "max-file", "compress", "mode", "max-buffer-size"),
    "journald": ("mode", "max-buffer-size", *_ATTRIBUTES),
    "none": (),
}
_DEFAULTS = {
    "json-file": ("-1", "1", "false"),
    "local": ("20m", "5", "true"),
    "journald": ("-1", "1", "false"),
    "none": ("-1", "1", "false"),
}
_TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_NO_FIELD = re.compile("[^A-Za-z0-9_]")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30,
          "gb": 1 << 30}  # fmt: skip


def check(config: LogConfig) -> None:
    """Check a driver and its options.

    Raises:
        InvalidArgument: in Docker's words.
    """
    driver = config.type or "json-file"
    if driver not in _OPTIONS:
        raise InvalidArgument(
            f'error looking up logging plugin {driver}: plugin "{driver}" not found'
        )
    if driver == "journald" and not os.path.exists(SOCKET):
        raise _refused("journald is not enabled on this host")
    for name in config.config:
        if name not in _OPTIONS[driver]:
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")
    mode = config.config.get("mode", "blocking")
    if mode not in ("blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    size, files, compress = _limits(config)
    if files < 1:
        raise _refused("max-file cannot be less than 1")
    if compress and (files < 2 or size == 0):
        raise _refused(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )


def _refused(why: str) -> InvalidArgument:
    """Give the error for a value; Docker says so only when the container starts."""
    return InvalidArgument(
        f"failed to create task for container: failed to initialize logging driver: {why}"
    )


def _limits(config: LogConfig) -> tuple[int, int, bool]:
    """Give the bytes of a file (0: no limit), the number of files, and whether old ones shrink."""
    default_size, default_files, default_compress = _DEFAULTS[config.type or "json-file"]
    size_text = config.config.get("max-size", default_size)
    files_text = config.config.get("max-file", default_files)
    if not files_text.isdecimal():
        raise _refused(f'strconv.Atoi: parsing "{files_text}": invalid syntax')
    compress = config.config.get("compress", default_compress)
    if compress.lower() not in _TRUTHS:
        raise _refused(f'strconv.ParseBool: parsing "{compress}": invalid syntax')
    return _size(size_text), int(files_text), _TRUTHS[compress.lower()]


def _size(text: str) -> int:
    """Read a size such as 10m; -1, and 0, is no limit."""
    if text == "-1":
        return 0
    number = text.rstrip("bkmgBKMG")
    unit = text[len(number) :].lower()
    if not number.isdecimal() or unit not in _UNITS:
        raise _refused(f"invalid size: '{text}'")
    return int(number) * _UNITS[unit]


def options_for(container: Container) -> LogOptions:
    """Say how the monitor of a container writes its log."""
    config = container.config.host_config.log_config
    size, files, compress = _limits(config)
    attributes = _attributes(container, config)
    if config.type == "journald":
        attributes = _journal_fields(container, attributes)
    return LogOptions(
        driver=config.type or "json-file",
        path=container.log_path,
        max_size=size,
        max_file=files,
        compress=compress and files > 1 and size > 0,
        attributes=attributes,
    )


def drivers() -> list[str]:
    """List the drivers that this host has: `info`."""
    return [name for name in _OPTIONS if name != "journald" or os.path.exists(SOCKET)]


def _journal_fields(container: Container, attributes: dict[str, str]) -> dict[str, str]:
    """Give the fields that Docker's entries have, and the attributes by upper-case names."""
    tag = attributes.pop("tag", container.short_id)
    chosen = {_NO_FIELD.sub("_", name).strip("_").upper(): one for name, one in attributes.items()}
    return {
        **chosen,
        "CONTAINER_ID": container.short_id,
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": container.image_name,
        "SYSLOG_IDENTIFIER": tag,
    }


def _attributes(container: Container, config: LogConfig) -> dict[str, str]:
    """Pick the labels and variables that the options name."""
    found = {}
    if tag := config.config.get("tag"):
        found["tag"] = tag.replace("{{.Name}}", container.name).replace(
            "{{.ID}}", container.short_id
        )
    variables = dict(item.partition("=")[::2] for item in container.config.env)
    for option, values in (("labels", dict(container.config.labels)), ("env", variables)):
        for name in filter(None, config.config.get(option, "").split(",")):
            if name in values:
                found[name] = values[name]
    return found
