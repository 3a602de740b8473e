"""Messages between engine, spawner, monitor and exec process, as the kernel delivers them."""

from __future__ import annotations

import os

from minicontainer.engine import connections, protocol


def test_a_last_word_is_heard_though_a_message_was_left_unread() -> None:
    """The kernel reports ECONNRESET first then: unix(7). An exit status must not be lost by it."""
    ours, theirs = connections.pair()
    ours.send(protocol.Resize(height=40, width=90))
    theirs.send(protocol.Exited(status=5, at_ns=1))
    theirs.close()
    received = ours.receive()
    assert received is not None
    assert received[0] == protocol.Exited(status=5, at_ns=1)
    assert ours.receive() is None
    ours.close()


def test_an_end_without_a_word_is_an_end() -> None:
    """The control: with nothing sent there is nothing to hear, whether or not all was read."""
    for unread in (False, True):
        ours, theirs = connections.pair()
        if unread:
            ours.send(protocol.Proceed())
        theirs.close()
        assert ours.receive() is None
        ours.close()


def test_a_message_carries_more_descriptors_than_a_packet_can() -> None:
    """SCM_MAX_FD of the kernel is 253. All arrive, in their order, and with their message alone."""
    ours, theirs = connections.pair()
    files = [os.memfd_create(str(number)) for number in range(600)]
    ours.send(protocol.Proceed(), files)
    ours.send(protocol.Abort())
    received = theirs.receive()
    assert received is not None
    message, arrived = received
    assert message == protocol.Proceed()
    assert [os.fstat(one).st_ino for one in arrived] == [os.fstat(one).st_ino for one in files]
    assert theirs.receive() == (protocol.Abort(), [])
    for descriptor in (*files, *arrived):
        os.close(descriptor)
    ours.close()
    theirs.close()
