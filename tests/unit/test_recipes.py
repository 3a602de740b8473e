"""The two recipes: of a container's first program, and of one that exec starts."""

from __future__ import annotations

from minicontainer import steps
from minicontainer.runtime.child import init
from minicontainer.runtime.container import execs

OF_FIRST = {steps.step_name(step): step for step in init.RECIPE}
OF_EXEC = {steps.step_name(step): step for step in execs.RECIPE}


def test_a_name_stands_for_one_step() -> None:
    """In each recipe; and in both for the same function."""
    assert (len(OF_FIRST), len(OF_EXEC)) == (len(init.RECIPE), len(execs.RECIPE))
    both = OF_FIRST.keys() & OF_EXEC.keys()
    assert len(both) > 15
    assert [name for name in both if OF_FIRST[name] is not OF_EXEC[name]] == []


def test_exec_takes_the_steps_in_the_same_order() -> None:
    """Why one comes before another is true of every program: privileges go last, and so on."""
    assert [name for name in OF_EXEC if name in OF_FIRST] == [
        name for name in OF_FIRST if name in OF_EXEC
    ]
