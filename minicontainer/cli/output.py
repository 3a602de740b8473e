"""What the user reads: one line of ours, and lists as tables, as JSON or by a template."""

from __future__ import annotations

import sys

from minicontainer.cli.exits import Exit
from minicontainer.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    # What each field of an entry shows: a value, or a function that finds it when it is wanted.
    Fields = Mapping[str, Any]


def say(message: str) -> None:
    """Tell the user something, apart from the container's output; mostly it is one line."""
    sys.stdout.flush()
    shown = "\n".join(printable(line) for line in message.split("\n"))
    sys.stderr.write(f"minicontainer: {shown}\n")
    sys.stderr.flush()


def tell(message: str) -> None:
    """Write a line to standard error, in its place after what was printed before."""
    sys.stdout.flush()
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def write_lines(lines: Iterable[str]) -> None:
    """Write lines to standard output, all at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def aligned(lines: Iterable[Sequence[str]], least: int = 10, padding: int = 3) -> str:
    """Write rows of cells below one another, as Go's text/tabwriter does.

    Args:
        lines: the cells; the last of a line takes the room that it needs.
        least: columns of the narrowest cell.
        padding: blanks between two cells.
    """
    rows = [list(line) for line in lines]
    widths = [[0] * len(row) for row in rows]
    deepest = max((len(row) for row in rows), default=0)
    for column in range(deepest - 1):
        block: list[int] = []
        for index in range(len(rows) + 1):
            if index < len(rows) and len(rows[index]) > column + 1:
                block.append(index)
                continue
            # A column is as wide as the widest cell of neighbouring lines that have it.
            width = max((len(rows[i][column]) + padding for i in block), default=0)
            for i in block:
                widths[i][column] = max(width, least)
            block = []
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, sizes, strict=True)) + "\n"
        for row, sizes in zip(rows, widths, strict=True)
    )


def show_list(
    entries: Iterable[Fields],
    headers: Mapping[str, str],
    columns: Sequence[str],
    format: str = "",
    kind: str = "",
) -> None:
    """Print a list of entries, in the way that --format asks for.

    Args:
        entries: the fields of each.
        headers: the title of every field that a template may name.
        columns: the fields of the table that is shown by default.
        format: the text of --format; "" for that table.
        kind: Docker's word for an entry, for messages: "container".
    """
    if format in ("", "table"):
        rows = [[headers[name] for name in columns]]
        rows += [[_shown(entry[name]) for name in columns] for entry in entries]
        sys.stdout.write(aligned(rows))
        return
    from minicontainer.cli import templates  # only a --format pays for it
    from minicontainer.cli.template_words import TemplateError

    is_table = format.startswith("table ")
    text = "{{json .}}" if format == "json" else format.removeprefix("table ")
    template = compiled(text.replace("\\t", "\t").replace("\\n", "\n"))
    lines = []
    if is_table:
        lines.append(templates.header(template, headers))
    for entry in entries:
        try:
            lines.append(template.render(Row(entry, kind)))
        except TemplateError as error:
            raise Exit(f"failed to execute template: {error}") from None
    if is_table:
        sys.stdout.write(aligned(line.split("\t") for text in lines for line in text.split("\n")))
    else:
        write_lines(lines)


def compiled(text: str) -> Any:
    """Read the template of a list; a bad one ends the command with Docker's words."""
    from minicontainer.cli import templates
    from minicontainer.cli.template_words import TemplateError

    try:
        return templates.Template(text)
    except TemplateError as error:
        raise Exit(f"failed to parse template: {error}") from None


class Row:
    """An entry of a list, as templates see it."""

    def __init__(self, fields: Fields, kind: str) -> None:
        self._fields = fields
        self.kind = kind

    def field(self, name: str, *arguments: Any) -> Any:
        """Give a field's value; KeyError for one that does not exist."""
        value = self._fields[name]
        return value(*arguments) if callable(value) else value

    def plain(self) -> dict[str, Any]:
        """Give all fields, for `{{json .}}`: sorted, as Go has maps, and without functions."""
        return {
            name: self.field(name)
            for name in sorted(self._fields)
            if not name.startswith("_") and name != "Label"
        }

    def json_text(self) -> str:
        """Write the fields as JSON."""
        from minicontainer.cli.template_functions import html_escaped, to_json

        return html_escaped(to_json(self.plain()))


def _shown(value: Any) -> str:
    found = value() if callable(value) else value
    return "" if found is None else str(found)


def for_each(names: Sequence[str], act: Callable[[str], Any], show: bool = True) -> int:
    """Do something with each of several objects at once; name what worked, then the errors.

    Args:
        names: as they were typed.
        act: does it, or raises an engine's error.
        show: whether the names are printed.
    """
    from minicontainer.cli.client import EngineError

    errors: list[str] = []
    for name, failure in zip(names, _all_of(names, act), strict=True):
        if isinstance(failure, EngineError):
            errors.append(str(failure))
        elif failure is not None:
            raise failure
        elif show:
            sys.stdout.write(f"{name}\n")
    if errors:
        raise Exit("\n".join(errors))
    return 0


def _all_of(names: Sequence[str], act: Callable[[str], Any]) -> list[BaseException | None]:
    """Call *act* with each name, at once where there are several: stopping one can take long."""
    failures: list[BaseException | None] = [None] * len(names)

    def attempt(index: int) -> None:
        try:
            act(names[index])
        except BaseException as failure:  # raised again by the caller; the thread ends here
            failures[index] = failure

    if len(names) == 1:
        attempt(0)
        return failures
    import threading  # here: 3 ms that one name does not need

    threads = [threading.Thread(target=attempt, args=(index,)) for index in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures
