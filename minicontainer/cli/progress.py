"""Progress of pull, push, load and import: bars at a terminal, a line for each change elsewhere.

The engine sends a JSON object for every change: {"status", "id", "progressDetail"}; an object with
"error" is the end.

See: Docker Engine API, ImageCreate.
"""

from __future__ import annotations

from minicontainer.cli.exits import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

# What a layer goes through at once or in a blink: at a terminal its bar says it.
_SECONDS_BETWEEN = 0.1


def show_progress(
    messages: Iterable[dict[str, Any]], out: TextIO, quiet: bool = False
) -> list[dict[str, Any]]:
    """Show messages as they come; give those that carry a result (`aux`).

    Raises:
        Exit: the engine reports an error.
    """
    if out.isatty() and not quiet:
        return _Bars(out).follow(messages)
    results: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for message in messages:
        check(message)
        if "aux" in message:
            results.append(message["aux"])
        elif not quiet:
            _write_line(message, out, seen)
    return results


def check(message: dict[str, Any]) -> None:
    """Raise an error that the engine reports in the middle of its answer."""
    if "error" in message or "errorDetail" in message:
        detail = message.get("errorDetail") or {}
        raise Exit(str(detail.get("message") or message.get("error")), detail.get("code") or 1)


def _write_line(message: dict[str, Any], out: TextIO, seen: dict[str, str]) -> None:
    """Write a message as a line; a layer's progress in bytes is none."""
    if "stream" in message:
        out.write(message["stream"])
        return
    status, name = message.get("status", ""), message.get("id", "")
    if (message.get("progressDetail") or {}).get("current") or (name and seen.get(name) == status):
        return
    if name:
        seen[name] = status
    out.write(f"{name}: {status}\n" if name else f"{status}\n")
    out.flush()


class _Bars:
    """A line for each layer, redrawn in place."""

    def __init__(self, out: TextIO) -> None:
        from rich import progress  # 60 ms that only a terminal pays for
        from rich.console import Console

        self._console = Console(file=out, highlight=False, markup=False)
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}: {task.fields[status]}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            console=self._console, refresh_per_second=1 / _SECONDS_BETWEEN,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def follow(self, messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Show messages until the last; what is no layer's stands above the bars."""
        results = []
        with self._progress:
            for message in messages:
                check(message)
                if "aux" in message:
                    results.append(message["aux"])
                elif "stream" in message:
                    self._console.print(message["stream"], end="")
                elif message.get("id") and "progressDetail" in message:
                    self._update(message)
                else:
                    name = message.get("id")
                    status = message.get("status", "")
                    self._console.print(f"{name}: {status}" if name else status)
        return results

    def _update(self, message: dict[str, Any]) -> None:
        name, detail = message["id"], message.get("progressDetail") or {}
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, status="")
        values: dict[str, Any] = {"status": message.get("status", "")}
        if detail.get("current"):
            values |= {"completed": detail["current"], "total": detail.get("total") or None}
        elif values["status"] in (
            "Pull complete",
            "Already exists",
            "Pushed",
            "Layer already exists",
        ):
            task = self._progress.tasks[self._tasks[name]]
            values |= {"completed": task.total or 1, "total": task.total or 1}
        self._progress.update(self._tasks[name], **values)
