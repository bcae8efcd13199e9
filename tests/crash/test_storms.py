"""Jobs in a storm come to the same end as jobs in fair weather; and the storm is one."""

from __future__ import annotations

import random
import time
from pathlib import Path

import httpx2
import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash.bad_network import Badness, BadNetwork, Harm
from tests.crash.storms import Storm, brave
from tests.toy import ask


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(1, 7))
def test_a_job_in_a_storm_ends_as_if_nothing_had_happened(tmp_path: Path, seed: int) -> None:
    """Killed at random times, with a bad network, a faulty server and lists that lag by up to a minute."""
    outcome = brave(Storm(seed, words=400), tmp_path)
    assert outcome.failures == []


def always(*harms: Harm) -> Badness:
    """A network that harms every exchange in the same way, if in any."""
    return Badness(rates=dict.fromkeys(harms, 1.0), longest_stall_s=0.01, up_s=1e6, longest_outage_s=0.0, hang_s=0.2)


def created(server: SandboxProcess) -> int:
    """How many direct calls the server has charged for."""
    calls: int = ask(server, "/sandbox/ledger")["total"]["requests"]
    return calls


def ask_something(network: BadNetwork, *, timeout_s: float = 10.0) -> bytes:
    """A direct call through the network."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Well?"}]}
    key = {"Authorization": "Bearer sk-test"}
    reply = httpx2.post(f"{network.url}/chat/completions", json=body, headers=key, timeout=timeout_s)
    assert reply.status_code == 200
    return reply.content


def test_a_network_that_is_not_bad_changes_nothing(server: SandboxProcess) -> None:
    with BadNetwork(server.url, always(), random.Random(1)).running() as network:
        assert b'"chat.completion"' in ask_something(network)
        assert not network.harms


@pytest.mark.parametrize(
    ("harm", "acted"),
    [(Harm.RESET_BEFORE, 0), (Harm.RESET_AFTER, 1), (Harm.CUT, 1), (Harm.HANG, 1)],
    ids=["before", "after", "cut", "late"],
)
def test_an_exchange_is_harmed_before_or_after_the_server_acted(server: SandboxProcess, harm: Harm, acted: int) -> None:
    before = created(server)
    with BadNetwork(server.url, always(harm), random.Random(1)).running() as network:
        with pytest.raises(httpx2.TransportError):
            ask_something(network)
        assert list(network.harms) == [harm]
    assert created(server) - before == acted


def test_a_stalled_reply_comes_all_the_same(server: SandboxProcess) -> None:
    with BadNetwork(server.url, always(Harm.STALL), random.Random(1)).running() as network:
        assert b'"chat.completion"' in ask_something(network)
        assert list(network.harms) == [Harm.STALL]


def test_what_hangs_never_reaches_the_server_if_nobody_waits_for_it(server: SandboxProcess) -> None:
    before = created(server)
    with BadNetwork(server.url, always(Harm.HANG), random.Random(1)).running() as network:
        with pytest.raises(httpx2.ReadTimeout):
            ask_something(network, timeout_s=0.05)
        time.sleep(0.3)
    assert created(server) == before


def test_in_an_outage_connections_are_refused(server: SandboxProcess) -> None:
    always_down = Badness(rates={}, longest_stall_s=0.0, up_s=1e-9, longest_outage_s=1e6)
    with BadNetwork(server.url, always_down, random.Random(1)).running() as network:
        while not network.harms:
            pass
        with pytest.raises(httpx2.ConnectError, match="refused"):
            ask_something(network)
