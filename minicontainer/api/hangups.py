"""Notice clients that leave while their answer waits for something to happen.

A thread that waits for a container's end, or for the next event, does not look at its socket. One
thread looks at all of them, and ends the wait of a client that has gone.

See: epoll(7), EPOLLRDHUP.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class HangUps:
    """The sockets that are looked at, and what is called when one of them is closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="hangups", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def watch(self, sock: socket.socket, act: Callable[[], None]) -> Iterator[None]:
        """Call *act* in another thread, once, if the other end closes *sock* meanwhile."""
        fd = sock.fileno()
        with self._lock:
            self._watched[fd] = sock, act
        self._epoll.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            yield
        finally:
            with self._lock:
                del self._watched[fd]
                self._epoll.unregister(fd)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                if fd == self._stop:
                    return
                with self._lock:
                    watched = self._watched.get(fd)
                if watched is not None:
                    watched[1]()

    def cut(self) -> None:
        """Close all connections that are looked at: each wait ends as if its client had left.

        So none of them gets an answer that is not true, such as the exit status of a container
        that runs on.
        """
        with self._lock:
            for sock, _ in self._watched.values():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop looking."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._stop)
