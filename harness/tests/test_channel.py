"""A channel: lines of JSON, whole or not at all, and descriptors that arrive with their line."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.measure.channel import Channel
from harness.bench.measure.jobs import Job
from harness.paper.record import CaseId


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """Return one end as a channel and the other as a plain socket."""
    own, other = Channel.pair()
    with other:
        yield own, other
    own.close()


@contextlib.contextmanager
def joined() -> Iterator[tuple[Channel, Channel]]:
    """Give both ends as channels."""
    own, plain = Channel.pair()
    other = Channel.of_descriptor(plain.detach())
    yield own, other
    own.close()
    other.close()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=6))
def test_lines_arrive_as_they_were_sent_and_in_order(contents: list[dict[str, object]]) -> None:
    """Whatever JSON can say arrives once, in order, line breaks within texts included."""
    with joined() as (own, other):
        for content in contents:
            own.send(content)
        own.close()
        assert [other.receive() for _ in contents] == contents
        assert other.receive() is None
        assert other.ended


def test_what_json_lacks_is_sent_as_text(ends: tuple[Channel, socket.socket]) -> None:
    """A path is sent as its text, so that no answer is lost for its contents."""
    own, other = ends
    own.send({"at": Path("/somewhere")})
    assert other.recv(100) == b'{"at": "/somewhere"}\n'


def test_half_a_line_is_no_line(ends: tuple[Channel, socket.socket]) -> None:
    """A process that dies in mid-sentence has said nothing."""
    own, other = ends
    other.sendall(b'{"status": "measured"}\n{"status": "mea')
    other.close()
    assert own.receive() == {"status": "measured"}
    assert not own.ended
    assert own.receive() is None
    assert own.ended


def test_a_line_may_come_in_pieces(ends: tuple[Channel, socket.socket]) -> None:
    """What was received before the time was over is kept for the next attempt."""
    own, other = ends
    other.sendall(b'{"status": ')
    assert own.receive(0.01) is None
    assert not own.ended
    other.sendall(b'"measured"}\n')
    assert own.receive(0.01) == {"status": "measured"}


def test_waiting_ends_with_the_time(ends: tuple[Channel, socket.socket]) -> None:
    """A silent other end costs the time that was allowed, also where it sends bytes but no line."""
    own, other = ends
    began = time.monotonic()
    assert own.receive(0.05) is None
    assert 0.05 <= time.monotonic() - began < 5
    stop = threading.Event()

    def babble() -> None:
        while not stop.wait(0.01):
            other.sendall(b"x")

    babbler = threading.Thread(target=babble)
    babbler.start()
    began = time.monotonic()
    try:
        assert own.receive(0.1) is None
    finally:
        stop.set()
        babbler.join()
    assert 0.1 <= time.monotonic() - began < 5
    assert not own.ended


def test_what_is_here_is_received_without_time(ends: tuple[Channel, socket.socket]) -> None:
    """A line that came with an earlier one needs no waiting."""
    own, other = ends
    other.sendall(b'{"a": 1}\n{"b": 2}\n')
    assert own.receive() == {"a": 1}
    assert own.receive(0) == {"b": 2}


def test_a_line_may_be_longer_than_a_buffer() -> None:
    """An answer with thousands of samples arrives whole."""
    content = {"samples": [1e-6 * number for number in range(50_000)]}
    with joined() as (own, other):
        sender = threading.Thread(target=own.send, args=(content,))
        sender.start()
        assert other.receive(10) == content
        sender.join()


def test_nobody_listens(ends: tuple[Channel, socket.socket]) -> None:
    """To speak to somebody who is gone is no error; to listen tells that he is."""
    own, other = ends
    other.close()
    own.send({"anybody": True})
    own.send({"anybody": True})
    assert own.receive(1) is None
    assert own.ended


def test_unread_words_do_not_hide_the_end(ends: tuple[Channel, socket.socket]) -> None:
    """An end that closes without having read what it was sent is gone, and no error."""
    own, other = ends
    own.send({"question": 1})
    other.close()
    assert own.receive(1) is None
    assert own.ended


def test_descriptors_arrive_with_their_lines() -> None:
    """Each line that hands something over has its own; lines without one in between change nothing."""
    with joined() as (own, other):
        given_away = []
        for number in range(3):
            kept, away = socket.socketpair()
            own.send({"plain": number})
            with away:
                own.send({"fork": number}, hand_over=away)
            given_away.append(kept)
        for number, kept in enumerate(given_away):
            assert other.receive(1) == {"plain": number}
            assert other.receive(1) == {"fork": number}
            with socket.socket(fileno=other.take_descriptor()) as taken, kept:
                kept.sendall(bytes([number]))
                assert taken.recv(100) == bytes([number])


def test_what_is_handed_over_is_open_there_alone() -> None:
    """Where the giver closes his copy, the end of the taker is seen at once."""
    channel, away = Channel.pair()
    with joined() as (own, other):
        with away:
            own.send({"fork": True}, hand_over=away)
        assert other.receive(1) == {"fork": True}
        os.close(other.take_descriptor())
        assert channel.receive(1) is None
        assert channel.ended
    channel.close()


def test_a_taken_end_is_not_inherited() -> None:
    """A program that is started by a page does not hold the channel open."""
    own, away = Channel.pair()
    descriptor = away.detach()
    os.set_inheritable(descriptor, True)
    other = Channel.of_descriptor(descriptor)
    assert not os.get_inheritable(descriptor)
    other.close()
    own.close()


def test_a_job_goes_through_a_channel() -> None:
    """Both sides know the same job."""
    case = CaseId("scale", "core", "fast", "tiny/one", "float32", "cpu", "forward")
    job = Job("begin", case, "file", 2, (1, 3), {"modes": ["hot"]})
    with joined() as (own, other):
        own.send(job.as_request())
        request = other.receive(1)
    assert request is not None
    assert Job.of_request(request) == job
