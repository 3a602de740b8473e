"""update: the limits and the restart policy of containers that exist."""

from __future__ import annotations

import sys

from minicontainer.cli.client import EngineError
from minicontainer.cli.create_options import UPDATE_OPTIONS
from minicontainer.cli.exits import Exit
from minicontainer.cli.flags import Asked, command
from minicontainer.cli.lifecycle import path_of


@command("CONTAINER [CONTAINER...]", *(option.flag for option in UPDATE_OPTIONS), least=1)
def update(asked: Asked) -> int:
    """Update configuration of one or more containers."""
    if not asked.given:
        raise Exit("you must provide one or more flags when using this command", prefix=True)
    body = {
        option.member.removeprefix("HostConfig."): getattr(asked, option.flag.dest)
        for option in UPDATE_OPTIONS
        if option.flag.dest in asked.given
    }
    warnings: list[str] = []
    errors: list[str] = []
    for name in asked.args:
        try:
            done = asked.session.client.post(path_of(name, "update"), body=body)
        except EngineError as error:
            errors.append(str(error))
            continue
        sys.stdout.write(f"{name}\n")
        warnings += done.get("Warnings") or ()
    if warnings:
        sys.stdout.write("\n".join(warnings))
    if errors:
        raise Exit("\n".join(errors))
    return 0
