"""spec, checkpoint, restore: commands that touch no container."""

from __future__ import annotations

import os

from minicontainer.errors import InvalidArgument, Unsupported
from minicontainer.runtime import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.runtime.command_line import Asked
    from minicontainer.runtime.main import Session


def spec(session: Session, asked: Asked) -> int:
    """Write a config.json to start from."""
    if asked.arguments:
        raise InvalidArgument(f"unexpected argument {asked.arguments[0]!r}")
    path = os.path.join(asked.value("bundle", "."), "config.json")
    import json  # here: it indents, which `jsontext` does not

    text = json.dumps(defaults.default_spec().to_json(), indent=4) + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidArgument(f"{path} exists already: remove it first") from None
    except OSError as error:
        raise InvalidArgument(f"can't write {path}: {error.strerror}") from None
    return 0


def unsupported(session: Session, asked: Asked) -> int:
    """Refuse checkpoint and restore."""
    raise Unsupported(f"{session.command} is not there yet: containers can't be frozen to disk")
