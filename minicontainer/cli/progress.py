"""Progress of pull, push, load and import: bars at a terminal, a line for each change elsewhere.

The engine sends a JSON object for every change: {"status", "id", "progressDetail"}; an object with
"error" is the end.

See: Docker Engine API, ImageCreate.
"""

from __future__ import annotations

import time

from minicontainer.cli import units
from minicontainer.cli.exits import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

_SECONDS_BETWEEN = 0.1  # two drawings of the bars
_COMPLETE = ("Pull complete", "Already exists", "Pushed", "Layer already exists")


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
    """A line for each layer, redrawn in place: status, bar, bytes, speed."""

    def __init__(self, out: TextIO) -> None:
        from rich import progress  # 60 ms that only a terminal pays for
        from rich.console import Console

        self._console = Console(file=out, highlight=False, markup=False)
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}: {task.fields[status]}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[amount]}", markup=False),
            console=self._console, refresh_per_second=1 / _SECONDS_BETWEEN,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}
        self._since: dict[str, tuple[float, str]] = {}

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
                elif "progressDetail" in message:  # that of an import has no name
                    name, detail = message.get("id") or "archive", message["progressDetail"] or {}
                    self._update(name, message["status"], detail)
                else:
                    name = message.get("id")
                    status = message.get("status", "")
                    self._console.print(f"{name}: {status}" if name else status)
        return results

    def _update(self, name: str, status: str, detail: dict[str, Any]) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=1, status="", amount="")
        values: dict[str, Any] = {"status": status}
        current, total = detail.get("current") or 0, detail.get("total") or 0
        if current:
            values["amount"] = self._amount(name, status, current, total)
            values |= {"completed": current, "total": max(total, current)}
        elif status in _COMPLETE:
            task = self._progress.tasks[self._tasks[name]]
            values |= {"completed": task.total, "amount": ""}
        self._progress.update(self._tasks[name], **values)

    def _amount(self, name: str, status: str, current: int, total: int) -> str:
        """Write how much of a layer is done, and how fast that was."""
        since, before = self._since.get(name, (0.0, ""))
        if before != status:
            since = time.monotonic()
            self._since[name] = since, status
        elapsed = time.monotonic() - since
        speed = f"  {units.size(current / elapsed, 3)}/s" if elapsed > _SECONDS_BETWEEN else ""
        return f"{units.size(current, 3)}{f'/{units.size(total, 3)}' if total else ''}{speed}"
