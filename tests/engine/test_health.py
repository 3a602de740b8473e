"""Health checks and restart policies."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from minicontainer.errors import InvalidArgument
from tests.engine.conftest import PATIENCE_S, eventually

if TYPE_CHECKING:
    from tests.engine.conftest import Lab

_MS = 10**6


def check(*test: str, **settings: int) -> dict[str, Any]:
    """Write a health check that runs every 20 ms."""
    return {"Test": list(test), "Interval": 20 * _MS, "Retries": 2, **settings}


def health(lab: Lab, made: str) -> str:
    """Give the status that `inspect` shows."""
    return str(lab.state(made)["Health"]["Status"])


def test_health_goes_up_and_down(lab: Lab) -> None:
    """By the exit status of a program in the container; each change is an event."""
    heard = lab.engine.events.subscribe(0, 0, {"event": ["health_status"]})
    made = lab.start("sleep", "1000", Healthcheck=check("CMD-SHELL", "echo looked; test -e /ok"))
    assert health(lab, made) == "starting"
    eventually(lambda: health(lab, made) == "unhealthy", "failures")
    assert lab.state(made)["Health"]["FailingStreak"] >= 2
    assert lab.state(made)["Health"]["Log"][-1]["Output"] == "looked\n"
    os.close(os.open(f"/proc/{lab.state(made)['Pid']}/root/ok", os.O_CREAT))
    eventually(lambda: health(lab, made) == "healthy", "success")
    (shown,) = lab.engine.containers.list(True, 0, False, {"health": ["healthy"]})
    assert shown["Status"].endswith("(healthy)")
    assert [next(heard)["Action"] for _ in range(2)] == [
        "health_status: unhealthy", "health_status: healthy",
    ]  # fmt: skip
    heard.close()


def test_failures_in_the_start_period_do_not_count(lab: Lab) -> None:
    """The container has time to get ready."""
    minute = 60_000 * _MS
    made = lab.start("sleep", "1000", Healthcheck=check("CMD", "false", StartPeriod=minute))
    eventually(lambda: len(lab.state(made)["Health"]["Log"]) >= 3, "some checks")
    assert health(lab, made) == "starting"
    assert lab.state(made)["Health"]["FailingStreak"] == 0


def test_a_check_that_takes_too_long_fails(lab: Lab) -> None:
    """And is killed."""
    slow = check("CMD-SHELL", "echo begun; sleep 1000", Timeout=100 * _MS)
    made = lab.start("sleep", "2000", Healthcheck=slow)
    eventually(lambda: health(lab, made) == "unhealthy", "failures")
    entry = lab.state(made)["Health"]["Log"][-1]
    assert entry["ExitCode"] == -1
    assert entry["Output"] == "Health check exceeded timeout (100ms): begun\n"


def test_a_container_without_a_check_has_no_health(lab: Lab) -> None:
    """Nor one that takes the image's away."""
    assert "Health" not in lab.state(lab.start("sleep", "1000"))
    assert "Health" not in lab.state(lab.start("sleep", "1000", Healthcheck={"Test": ["NONE"]}))


def test_on_failure_is_tried_so_often(lab: Lab) -> None:
    """Then the container stays as it is, with its last status."""
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    begun = time.monotonic()
    made = lab.start("sh", "-c", "echo run; exit 3", host=policy)
    found = lab.engine.containers.find(made)
    eventually(lambda: found.exits == 3, "three runs")
    eventually(lambda: lab.state(made)["Status"] == "exited", "the end")
    assert lab.engine.containers.inspect(made)["RestartCount"] == 2
    assert lab.state(made)["ExitCode"] == 3
    assert time.monotonic() - begun > 0.3  # 100 and 200 ms


def test_success_is_no_failure(lab: Lab) -> None:
    """`on-failure` does not start it again."""
    policy = {"RestartPolicy": {"Name": "on-failure"}}
    made, status = lab.run("true", host=policy)
    assert (status, lab.state(made)["Status"]) == (0, "exited")


def test_always_goes_on_until_it_is_stopped(lab: Lab) -> None:
    """By `stop`, also while it waits for its next start; by `rm --force` too."""
    made = lab.start("sleep", "1000", host={"RestartPolicy": {"Name": "always"}})
    first = lab.state(made)["Pid"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: lab.state(made)["Pid"] not in (0, first), "the restart")
    lab.engine.containers.stop(made, 0)
    assert lab.state(made)["Status"] == "exited"
    quick = lab.start("false", host={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: lab.state(quick)["Status"] == "restarting", "a longer wait")
    lab.engine.containers.stop(quick)
    assert lab.state(quick)["Status"] == "exited"
    other = lab.start("false", host={"RestartPolicy": {"Name": "always"}})
    lab.engine.containers.remove(other, force=True)
    assert other not in [one.id for one in lab.engine.containers.all()]


def test_a_stop_while_a_restart_has_begun(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restart can't be called back, so its program is stopped: nothing runs after the stop."""
    program = "test -e /again && exec sleep 1000; touch /again; exit 1"
    made = lab.start("sh", "-c", program, host={"RestartPolicy": {"Name": "always"}})
    begun, may_go_on = threading.Event(), threading.Event()
    spawner = lab.engine.supervisor.spawner
    start = spawner.start

    def late(*arguments: Any) -> Any:
        begun.set()
        assert may_go_on.wait(PATIENCE_S)
        return start(*arguments)

    monkeypatch.setattr(spawner, "start", late)
    assert begun.wait(PATIENCE_S)
    stopping = threading.Thread(target=lab.engine.containers.stop, args=(made, 0))
    stopping.start()
    stopping.join(0.2)  # a stop that does not wait for the restart has ended by then
    may_go_on.set()
    stopping.join(PATIENCE_S)
    with lab.engine.containers.find(made).operating:  # no restart is under way any more
        assert lab.state(made)["Status"] == "exited"


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ({"RestartPolicy": {"Name": "often"}}, "unknown policy 'often'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}, "only be used with"),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "cannot be negative"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "can't create 'AutoRemove'"),
    ],
)
def test_a_policy_that_makes_no_sense(lab: Lab, host: dict[str, Any], told: str) -> None:
    """Nothing is created."""
    with pytest.raises(InvalidArgument, match=told):
        lab.create("true", host=host)
    assert not lab.engine.containers.all()
