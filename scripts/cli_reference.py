"""Write docs/reference/cli.md: every command of minicontainer, and its options.

    .venv/bin/python -m scripts.cli_reference

The commands come from `cli/table.py`, the options from the tables that the parser reads.
"""

from __future__ import annotations

from pathlib import Path

from minicontainer.cli import help, table
from minicontainer.cli.flags import Command
from minicontainer.cli.main import find_command
from minicontainer.cli.session import GLOBAL_FLAGS

PAGE = Path(__file__).parents[1] / "docs/reference/cli.md"
_COLUMNS = 96

_BEGINNING = """\
# minicontainer

This page is made from the program's own tables: `.venv/bin/python -m scripts.cli_reference`.

`minicontainer` is a client of the Docker Engine API. Its commands, options, columns, messages and
exit statuses are those of Docker's client, and it drives Docker's daemon as well as this project's
engine. A command has a long spelling and, mostly, a short one: `minicontainer container stop` is
`minicontainer stop`.

## Which engine

The first of these that is set names the engine:

| | |
| --- | --- |
| `-H URL`, `--host URL` | `unix:///run/docker.sock`, `tcp://host:2376` |
| `--exec-root DIR` | this project's engine whose sockets are in `DIR`; with `--data-root DIR`, where its data are |
| `MINICONTAINER_HOST`, `DOCKER_HOST` | as `--host`; `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` go with them |
| nothing | `/run/minicontainer/minicontainer.sock` |

If this project's engine does not run, root's command starts it, says so in one line, and waits until
it answers. It ends after ten minutes without containers and requests. A user who is not root has to
be in the group that the socket belongs to; the message of a refused command names that group.

`~/.docker/config.json` (or `DOCKER_CONFIG`, `--config`) is Docker's file, read and written as Docker's
client does: credentials and their helpers, `psFormat`, `imagesFormat`, `statsFormat`, `detachKeys`,
`proxies`.

## Exit status

| | |
| --- | --- |
| 0 | all is done |
| 1 | the engine refused, or one of several objects could not be handled: what failed is at the end |
| 125 | an option is wrong; or, of `run`, the container could not be created |
| 126, 127 | the program can't be run; it is not there |
| other | `run`, `start -a`, `attach`, `exec`: that of the program, 128+N if signal N killed it |

## Templates

`--format` takes `json`, `table TEMPLATE`, or a Go template: fields (`{{.State.Pid}}`), variables,
pipes, `if`, `else if`, `range`, `with`, `break`, `continue`, comments and `{{-` trimming `-}}`; the
functions `and or not eq ne lt le gt ge len index slice print printf println` of Go, and `json split
join title lower upper pad truncate` of Docker. `define`, `template` and `block` are not there.

```sh
minicontainer ps --format 'table {{.Names}}\\t{{.Status}}'
minicontainer inspect -f '{{range $name, $net := .NetworkSettings.Networks}}{{$net.IPAddress}} {{end}}' web
```

## What differs from Docker's client

- An error of the program itself is one line: there is no usage text behind it.
- `cp -a` keeps owners also when it copies out of a container; Docker's client does not.
- `run --rootfs DIR` starts from a directory: [run.md](run.md). `--explain` tells every step.
- Not here: `build`, `compose`, `context`, Swarm's commands, plugins, trust.

## Global options

```text
"""  # noqa: E501  # lines of a page


def page() -> str:
    """Write the page."""
    text = [_BEGINNING, "\n".join(help.options_text(GLOBAL_FLAGS, _COLUMNS)), "\n```\n"]
    for row in sorted(table.COMMANDS, key=lambda row: row.spellings[-1]):
        name = row.spellings[-1]
        if row.module == "daemon":
            text.append(f"\n## {name}\n\n{row.help}: see [api.md](api.md).\n")
            continue
        command: Command = find_command(row)
        text.append(f"\n## {name}\n\n```text\n{help.text_of(command, name, _COLUMNS)}```\n")
    return "".join(text)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
