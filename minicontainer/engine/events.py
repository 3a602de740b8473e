"""What happens in the engine, for everybody who listens: `docker events`.

See: Docker Engine API, SystemEvents.
"""

from __future__ import annotations

import collections
import threading
import time

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Event = dict[str, Any]
    Filters = dict[str, list[str]]

KEPT = 256  # events that `--since` can still show
_MOST_WAITING = 4096  # for one subscriber that does not read


class Events:
    """The events of an engine; any thread may publish and subscribe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: collections.deque[Event] = collections.deque(maxlen=KEPT)
        self._subscriptions: list[Subscription] = []

    def publish(self, kind: str, action: str, identifier: str, attributes: dict[str, str]) -> None:
        """Tell everybody of an event.

        Args:
            kind: container, image, network, volume.
            action: start, die and so on.
            identifier: of the object.
            attributes: name, image, labels, exitCode and so on.
        """
        now = time.time_ns()
        event: Event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": identifier, "Attributes": attributes},
            "scope": "local",
            "time": now // 10**9,
            "timeNano": now,
        }
        # Clients from before API 1.22 read these; some newer ones still do.
        if kind in ("container", "image"):
            event |= {"status": action, "id": identifier}
        if kind == "container":
            event["from"] = attributes.get("image", "")
        with self._lock:
            self._kept.append(event)
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.put(event)

    def subscribe(
        self, since_ns: int = 0, until_ns: int = 0, filters: Filters | None = None
    ) -> Subscription:
        """Give past events from *since_ns* on, then those to come, up to *until_ns*.

        Args:
            since_ns: since the epoch; 0 for new events only, or without a beginning where
                there is an end.
            until_ns: likewise; 0 for no end.
            filters: `FILTERS` names them.
        Raises:
            InvalidArgument: a filter that does not exist; the end is before the beginning.
        """
        if 0 < until_ns < since_ns:
            raise InvalidArgument(
                f"`since` time ({since_ns / 1e9:.9f}) cannot be after `until` time "
                f"({until_ns / 1e9:.9f})"
            )
        wanted = filters or {}
        for name in wanted:
            if name not in FILTERS:
                raise InvalidArgument(f"invalid filter '{name}'")
        subscription = Subscription(self, until_ns, wanted)
        # Both under one lock: no event is missed between the past and the future, and none is
        # given twice.
        with self._lock:
            past = [event for event in self._kept if event["timeNano"] >= since_ns]
            for event in past if since_ns or until_ns else ():
                subscription.put(event)
            self._subscriptions.append(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Send nothing more to a subscription."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    @property
    def listeners(self) -> int:
        """Give the number of subscriptions."""
        return len(self._subscriptions)


class Subscription:
    """The events that one listener wants; an iterator that any thread can close."""

    def __init__(self, events: Events, until_ns: int, filters: Filters) -> None:
        self._events = events
        self._until_ns = until_ns
        self._filters = filters
        self._changed = threading.Condition()
        self._waiting: collections.deque[Event] = collections.deque()
        self._closed = False

    def put(self, event: Event) -> None:
        """Take an event that is wanted; a listener that does not read misses the newest ones."""
        if matches(event, self._filters):
            with self._changed:
                if len(self._waiting) < _MOST_WAITING:
                    self._waiting.append(event)
                    self._changed.notify()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        with self._changed:
            while not self._waiting and not self._closed:
                left_s = (self._until_ns - time.time_ns()) / 1e9 if self._until_ns else None
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            event = self._waiting.popleft() if self._waiting and not self._closed else None
        if event is None or 0 < self._until_ns < event["timeNano"]:
            self.close()
            raise StopIteration
        return event

    def close(self) -> None:
        """End the iteration, also while another thread waits in it."""
        self._events.forget(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def matches(event: Event, filters: Filters) -> bool:
    """Say whether an event passes every filter: one of the values of each."""
    return all(
        any(FILTERS[name](event, value) for value in values)
        for name, values in filters.items()
        if values
    )


def _is_action(event: Event, value: str) -> bool:
    # `exec_create: sh -c …` and `health_status: healthy` are also found by their first word.
    return value in (event["Action"], event["Action"].partition(":")[0])


def _is_object(event: Event, value: str) -> bool:
    actor = event["Actor"]
    name: str = actor["Attributes"].get("name", "")
    return bool(actor["ID"].startswith(value) or name.startswith(value))


def _is_image(event: Event, value: str) -> bool:
    attributes = event["Actor"]["Attributes"]
    image: str = attributes.get("name" if event["Type"] == "image" else "image", "")
    name, _, tag = image.rpartition(":")
    without_tag = name if name and "/" not in tag else image
    return value in (event["Actor"]["ID"], image, without_tag)


def _has_label(event: Event, value: str) -> bool:
    label, equals, wanted = value.partition("=")
    attributes = event["Actor"]["Attributes"]
    return label in attributes and (not equals or attributes[label] == wanted)


def _of_type(kind: str) -> Callable[[Event, str], bool]:
    return lambda event, value: event["Type"] == kind and _is_object(event, value)


# What `filters` may hold: name, and whether an event fits a value.
FILTERS: dict[str, Callable[[Event, str], bool]] = {
    "config": _of_type("config"),
    "container": _of_type("container"),
    "daemon": _of_type("daemon"),
    "event": _is_action,
    "id": _is_object,
    "image": _is_image,
    "label": _has_label,
    "network": _of_type("network"),
    "node": _of_type("node"),
    "plugin": _of_type("plugin"),
    "scope": lambda event, value: event["scope"] == value,
    "secret": _of_type("secret"),
    "service": _of_type("service"),
    "type": lambda event, value: event["Type"] == value,
    "volume": _of_type("volume"),
}
