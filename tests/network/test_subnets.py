"""The subnet chosen for a bridge is one that the host does not use."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicontainer.errors import Conflict
from minicontainer.network.networks import choose_subnet

subnets = st.ip_addresses(v=4).flatmap(
    lambda address: st.integers(8, 30).map(lambda prefix: f"{address}/{prefix}")
)


@given(st.lists(subnets, min_size=1, max_size=5), st.lists(subnets, max_size=5))
def test_the_chosen_subnet_overlaps_with_nothing(candidates: list[str], used: list[str]) -> None:
    """It is the first of the candidates with which no address is shared."""
    offered = tuple(str(IPv4Network(text, strict=False)) for text in candidates)
    taken = [IPv4Network(text, strict=False) for text in used]
    free = [one for one in offered if not any(IPv4Network(one).overlaps(net) for net in taken)]
    if free:
        assert str(choose_subnet(offered, taken)) == free[0]
    else:
        with pytest.raises(Conflict, match="no free subnet"):
            choose_subnet(offered, taken)
