"""UTS namespaces: the host's name. uts_namespaces(7)."""

from __future__ import annotations

import socket

from tests.conftest import Run

from .conftest import is_ours, leaks


def test_a_container_has_its_own_name(run: Run) -> None:
    """The start of its ID, as in Docker, and the same in /etc/hostname and $HOSTNAME."""
    name, file, variable = run("hostname; cat /etc/hostname; echo $HOSTNAME").output.split()
    assert name == file == variable
    assert len(name) == 12
    assert name != socket.gethostname()


def test_the_name_can_be_chosen(run: Run) -> None:
    """Programs that read the file find the same."""
    assert run("hostname; cat /etc/hostname", "--hostname", "web.example").output == (
        "web.example\nweb.example\n"
    )


def test_without_a_uts_namespace_it_has_the_hosts(run: Run) -> None:
    """The control."""
    assert run("hostname", without="uts").output.strip() == socket.gethostname()


def test_a_name_set_inside_stays_inside(run: Run) -> None:
    """sethostname(2) changes the namespace's name: here it is tried with the right to do it."""
    before = socket.gethostname()
    container = run.start("hostname changed && hostname; sleep 60", "--cap-add", "SYS_ADMIN")
    assert not is_ours(container.pid, "uts")
    assert run("hostname", "--uts", f"ns:/proc/{container.pid}/ns/uts").output == "changed\n"
    assert socket.gethostname() == before


def test_without_the_capability_it_can_not_be_set(run: Run) -> None:
    """root inside is not root of everything."""
    result = run("hostname changed")
    assert result.status == 1
    assert "Operation not permitted" in result.errors


def test_the_namespace_is_the_hosts_when_asked(run: Run) -> None:
    """The control of the kernel's view."""
    shared = run.start("echo ready; sleep 60", without="uts").pid
    assert is_ours(shared, "uts")
    assert leaks(shared, "uts").keys() == {"host name"}
    assert leaks(run.start("echo ready; sleep 60").pid, "uts") == {}


def test_a_name_can_not_be_given_to_another_ones_namespace(run: Run) -> None:
    """The host's, or another container's, keeps its name; /etc/hostname tells the host's."""
    assert "conflicting options" in run("true", "--hostname", "x", without="uts").errors
    assert run("cat /etc/hostname", without="uts").output.strip() == socket.gethostname()


def test_a_bad_name_is_refused(run: Run) -> None:
    """Before anything is made."""
    for name in ("a b", "x" * 65, "a/b"):
        result = run("true", "--hostname", name)
        assert result.status == 125
        assert "invalid hostname" in result.errors
