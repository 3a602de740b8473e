"""spec, features, checkpoint, restore: commands that need no container."""

from __future__ import annotations

import os
import sys

from minicontainer import jsontext
from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.runtime.config import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.cli.command_line import Asked
    from minicontainer.runtime.cli.main import Session


def spec(session: Session, asked: Asked) -> int:
    """Write a config.json to start from."""
    if asked.arguments:
        raise InvalidArgument(f"unexpected argument {asked.arguments[0]!r}")
    path = os.path.join(asked.value("bundle", "."), "config.json")
    made = defaults.rootless_spec(os.geteuid(), os.getegid()) if asked.has("rootless") else None
    text = jsontext.pretty((made or defaults.default_spec()).to_json()) + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidArgument(f"{path} exists already: remove it first") from None
    except OSError as error:
        raise InvalidArgument(f"can't write {path}: {error.strerror}") from None
    return 0


def features(session: Session, asked: Asked) -> int:
    """Print what this runtime can do."""
    # it imports every table
    from minicontainer.runtime.config.features import features as described

    sys.stdout.write(jsontext.pretty(described()) + "\n")
    return 0


def unsupported(session: Session, asked: Asked) -> int:
    """Refuse checkpoint and restore."""
    raise Unsupported(f"{session.command} is not there yet: containers can't be frozen to disk")
