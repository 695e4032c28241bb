"""How much one client may have: a burst of one keeps nobody out, and what is asked is counted."""

from __future__ import annotations

from collections import deque

import anyio
import prometheus_client
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from app.turns import MINUTE, Crowded, SearchSlots, Turns, Window, client_of
from tests.app.served import Planted, serve


class Crowd:
    """Clients who take a slot one after another; the order in which they had it."""

    def __init__(self, slots: int, places: int) -> None:
        self.turns = Turns(slots, places)
        self.served: list[str] = []
        self.refused: list[str] = []

    async def come(self, client: str) -> None:
        try:
            await self.turns.take(client)
        except Crowded:
            self.refused.append(client)
            return
        self.served.append(client)
        await anyio.sleep(0.001)
        self.turns.give_back()

    def run(self, clients: str) -> None:
        async def all_come() -> None:
            async with anyio.create_task_group() as group:
                for client in clients:
                    group.start_soon(self.come, client)

        anyio.run(all_come)
        assert (self.turns.n_free, self.turns.n_waiting) == (1, 0)


def test_clients_take_turns_however_many_searches_one_has() -> None:
    crowd = Crowd(slots=1, places=100)
    crowd.run("aaaaaaaaaabbc")
    assert "".join(crowd.served) == "aabcabaaaaaaa"


def test_a_full_queue_has_room_for_whoever_has_fewest_in_it() -> None:
    crowd = Crowd(slots=1, places=4)
    crowd.run("aaaaaaaabcc")
    assert sorted(crowd.served) == sorted("aaabc")
    assert crowd.refused.count("a") == 5
    assert crowd.refused.count("b") == 0


@given(st.text("abc", max_size=30), st.integers(0, 6))
def test_everybody_is_served_or_refused_and_each_in_order(clients: str, places: int) -> None:
    crowd = Crowd(slots=1, places=places)
    crowd.run(clients)
    assert sorted(crowd.served + crowd.refused) == sorted(clients)
    assert len(crowd.served) >= min(len(clients), places + 1)


def test_who_leaves_while_waiting_leaves_no_slot_behind() -> None:
    turns = Turns(1, 10)

    async def take_and_give_back() -> None:
        await turns.take("b")
        turns.give_back()

    async def leave_in_every_state() -> None:
        await turns.take("a")
        async with anyio.create_task_group() as group:
            group.start_soon(take_and_give_back)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()  # while it waits
        assert turns.n_waiting == 0
        async with anyio.create_task_group() as group:
            group.start_soon(take_and_give_back)
            await anyio.wait_all_tasks_blocked()
            turns.give_back()
            group.cancel_scope.cancel()  # when the slot is its own, and it does not know yet
        assert turns.n_free == 1

    anyio.run(leave_in_every_state)


def test_who_left_while_waiting_takes_no_place_from_others() -> None:
    served: list[str] = []
    refused: list[int] = []
    done: anyio.Event

    async def search(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["client"][0])
        await done.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(slots: SearchSlots, client: str, gone: anyio.Event) -> None:
        messages = deque([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Message:
            if not messages:
                await gone.wait()
                return {"type": "http.disconnect"}
            return messages.popleft()

        async def send(message: Message) -> None:
            refused.extend([message["status"]] * (message.get("status", 200) != 200))

        scope = {"type": "http", "path": "/", "method": "GET", "client": (client, 1), "headers": []}
        await slots(scope, receive, send)

    async def come_and_go() -> None:
        nonlocal done
        done = anyio.Event()
        slots = SearchSlots(search, slots=1, queue=2, is_search=lambda _: True)
        stays, leaves = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            for client, gone in (("a", stays), ("b", leaves), ("c", leaves)):
                group.start_soon(ask, slots, client, gone)
            await anyio.wait_all_tasks_blocked()
            assert slots.turns.n_waiting == 2
            leaves.set()
            await anyio.wait_all_tasks_blocked()
            assert slots.turns.n_waiting == 0
            group.start_soon(ask, slots, "d", stays)
            done.set()
        assert (slots.turns.n_free, slots.turns.n_waiting) == (1, 0)

    anyio.run(come_and_go)
    assert (served, refused) == (["a", "d"], [])


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_an_address_or_the_network_of_one_visitor(address: str, client: str) -> None:
    assert client_of({"client": (address, 1)}) == client
    assert client_of({}) == ""


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=60))
def test_in_no_minute_is_more_allowed_and_no_less_either(most: int, asked: list[tuple[str, int]]) -> None:
    now = 0.0
    window = Window(most, lambda: now)
    allowed: dict[str, deque[float]] = {"a": deque(), "b": deque()}
    for client, pause in asked:
        now += pause
        recent = [t for t in allowed[client] if now - t < MINUTE]
        wait = window.seconds_until(client)
        assert (wait == 0) == (len(recent) < most)
        if wait:
            assert wait == min(recent) + MINUTE - now
        else:
            allowed[client].append(now)
    now += MINUTE
    window.seconds_until("c")
    assert len(window) == 1  # nobody is kept for longer


def test_a_client_who_searches_too_often_is_told_when_to_come_again(planted: Planted) -> None:
    read = prometheus_client.REGISTRY.get_sample_value
    before = read("saefari_limited_total", {"what": "search"}) or 0.0
    app = serve(planted, search_rate=3, trusted_proxies=("192.0.2.1",))
    address = f"{planted.search}.json?q=dust"
    with TestClient(app, client=("192.0.2.1", 1)) as proxy:
        mine, other = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
        assert [proxy.get(address, headers=mine).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = proxy.get(f"{planted.search}?q=rust", headers=mine)
        assert proxy.get(address, headers=other).status_code == 200
        assert proxy.get(planted.base, headers=mine).status_code == 200  # reading goes on
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "more searches in a minute than are allowed" in refused.text
    assert read("saefari_limited_total", {"what": "search"}) == before + 2


def test_writes_are_counted_apart(planted: Planted) -> None:
    with TestClient(serve(planted, write_rate=2)) as client:
        statuses = [client.post(planted.base).status_code for _ in range(3)]
        assert client.get(f"{planted.search}.json?q=dust").status_code == 200
    assert statuses == [405, 405, 429]
