"""Finding rank 0's port: ports in use, other programs and other runs do no harm."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from signs_dist.environment import port_exchange as meeting
from signs_dist.environment.port_exchange import NUM_CANDIDATES, PORTS, ask, candidate_ports, find_free_port, hosted
from signs_dist.errors import PeerLostError, UserError


def test_the_candidates_are_a_function_of_the_name() -> None:
    ports = candidate_ports("job 7.0.0")
    assert len(set(ports)) == NUM_CANDIDATES
    assert all(port in PORTS for port in ports)
    assert candidate_ports("job 7.0.0") == ports
    assert candidate_ports("job 7.0.1") != ports


def test_every_rank_gets_the_port() -> None:
    with hosted("all", 12345) as server:
        assert server.listening_port == candidate_ports("all")[0]
        assert [ask("all", "127.0.0.1", rank, 5) for rank in (1, 2, 3)] == [12345] * 3
        assert server.answered_ranks == {1, 2, 3}


def test_a_rank_that_is_early_waits_for_rank_0() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(ask("early", "127.0.0.1", 1, 20)))
    thread.start()
    time.sleep(0.5)
    with hosted("early", 77):
        thread.join(timeout=20)
    assert found == [77]


def listen(stack: contextlib.ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_server(("", port)))


def test_a_port_in_use_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "ANSWER_SECONDS", 0.3)
    with contextlib.ExitStack() as stack:
        listen(stack, candidate_ports("taken")[0])  # accepts, and never answers
        with hosted("taken", 88) as server:
            assert server.listening_port == candidate_ports("taken")[1]
            assert ask("taken", "127.0.0.1", 1, 10) == 88
    with contextlib.ExitStack() as stack:
        for port in candidate_ports("full"):
            listen(stack, port)
        with pytest.raises(UserError, match="are all in use on this machine"), hosted("full", 1):
            pass


def test_another_run_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    real = candidate_ports("one")
    monkeypatch.setattr(meeting, "candidate_ports", lambda name: real)
    with hosted("one", 111), hosted("other", 222):
        assert ask("other", "127.0.0.1", 1, 10) == 222
        assert ask("one", "127.0.0.1", 1, 10) == 111


def test_the_answer_of_another_program_is_ignored() -> None:
    def answer(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"220 4711\n")

    with contextlib.ExitStack() as stack:
        stranger = listen(stack, candidate_ports("stranger")[0])
        thread = threading.Thread(target=answer, args=(stranger,))
        thread.start()
        with hosted("stranger", 66):
            assert ask("stranger", "127.0.0.1", 1, 10) == 66
        stranger.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_silent_and_wrong_connections_do_not_delay_the_others() -> None:
    with hosted("rude", 99) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.listening_port)))
        rude = stack.enter_context(socket.create_connection(("127.0.0.1", server.listening_port)))
        rude.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 1000)
        assert ask("rude", "127.0.0.1", 1, 5) == 99


def test_no_rank_0_is_told_with_the_ports() -> None:
    with pytest.raises(PeerLostError, match=r"rank 3 found no rank 0 at 127\.0\.0\.1 within 0 s on the ports \d+"):
        ask("nobody", "127.0.0.1", 3, 0)


def test_a_free_port_can_be_listened_on() -> None:
    with contextlib.ExitStack() as stack:
        port = find_free_port()
        assert listen(stack, port).getsockname()[1] == port
        assert find_free_port() != port
