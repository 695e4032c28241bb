"""How much one client may have: searches take turns between clients, and what a client asks is counted.

Without a proxy that says who asks (`SAEFARI_TRUSTED_PROXIES`), all that come through it are one client.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

import anyio
from fastapi import Request

from app import urls
from app.middleware import SECONDS_UNTIL_RETRY, error_response, error_view
from app.observing import LIMITED, REFUSED, SEARCHES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.settings import Settings

MINUTE = 60.0
CROWD = 30  # clients that may sign in at their full rate in the same minute
_READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_BITS_OF_A_SITE = 64  # of an IPv6 address: a single visitor has all addresses that share them


def client_of(scope: Scope) -> str:
    """Who asks: an address, or where that is IPv6 the network of one visitor."""
    host: str = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), _BITS_OF_A_SITE), strict=False))


class Window:
    """Counts what each client asked within the last minute, exactly, by a clock that nobody sets."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # who asked last comes last

    def __len__(self) -> int:
        return len(self._times)

    def seconds_until(self, client: str) -> float:
        """0.0 if this client may ask now, which is counted; else how long until they may."""
        now = self.clock()
        while self._times and now - next(iter(self._times.values()))[-1] >= MINUTE:
            self._times.popitem(last=False)
        times = self._times.setdefault(client, deque(maxlen=self.most))
        if len(times) == self.most and now - times[0] < MINUTE:
            return MINUTE - (now - times[0])
        times.append(now)  # the first one leaves, if there are as many as there may be
        self._times.move_to_end(client)
        return 0.0


class Rates:
    """Lets each client search, write, and try tokens only so often in a minute; 0: as often as they like.

    Tokens are tried only so often by all together, too, and in all workers together: each has its share of
    what is allowed. That needs no table, which every guess would have to write to.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, is_search: Callable[[str], bool]) -> None:
        self.app = app
        self.is_search = is_search
        rates = {"search": settings.search_rate, "write": settings.write_rate}
        rates["sign-in"] = _share(settings.sign_in_rate, settings.workers)
        self.windows = {what: Window(n) for what, n in rates.items() if n}
        self.crowd = Window(_share(CROWD * settings.sign_in_rate, settings.workers) or 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        what = self._what(scope)
        if what not in self.windows:
            await self.app(scope, receive, send)
            return
        seconds, whose = self.windows[what].seconds_until(client_of(scope)), "From your address"
        if not seconds and what == "sign-in":  # who was refused alone is not counted with the others
            seconds, whose = self.crowd.seconds_until(""), "From all addresses"
        if not seconds:
            await self.app(scope, receive, send)
            return
        LIMITED.labels(what).inc()
        wait = math.ceil(seconds)
        view = error_view(
            429,
            "Too many requests",
            f"{whose} came more {_ASKED[what]} in a minute than are allowed.",
            f"Try again in {wait} second{'s' if wait > 1 else ''}.",
        )
        await error_response(Request(scope), view, {"Retry-After": str(wait)})(scope, receive, send)

    def _what(self, scope: Scope) -> str:
        if scope["type"] != "http":
            return ""
        if scope["method"] not in _READING:
            return "sign-in" if scope["path"] == urls.sign_in() else "write"
        return "search" if self.is_search(scope["path"]) else ""


def _share(most: int, workers: int) -> int:
    """Of one worker, so that all together allow no more, but for one in each."""
    return max(1, most // workers) if most else 0


_ASKED = {"search": "searches", "write": "writes", "sign-in": "attempts to sign in"}


class Crowded(Exception):
    """There is no slot, and no place to wait for one."""


@dataclass(eq=False)
class _Place:
    client: str
    called: anyio.Event = field(default_factory=anyio.Event)
    is_refused: bool = False


class Turns:
    """Slots for which clients take turns; of what one client asked, the first comes first.

    Where all places to wait are taken, whoever has most of them gives one to a client that has at least two
    fewer: a crowd of one keeps nobody out.
    """

    def __init__(self, slots: int, places: int) -> None:
        self.n_free = slots
        self.places = places
        self._waiting: OrderedDict[str, deque[_Place]] = OrderedDict()  # whose turn is next comes first

    @property
    def n_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def take(self, client: str) -> None:
        """Wait for a slot, to be given back; Crowded if it is not to be had."""
        if self.n_free:
            self.n_free -= 1
            return
        if self.n_waiting >= self.places:
            self._make_room(client)
        place = _Place(client)
        self._waiting.setdefault(client, deque()).append(place)
        try:
            await place.called.wait()
        except BaseException:
            if not place.called.is_set():
                self._leave(place)
            elif not place.is_refused:
                self.give_back()
            raise
        if place.is_refused:
            raise Crowded

    def give_back(self) -> None:
        """To the next client that waits, if there is one."""
        if not self._waiting:
            self.n_free += 1
            return
        client, places = next(iter(self._waiting.items()))
        place = places.popleft()
        if places:
            self._waiting.move_to_end(client)
        else:
            del self._waiting[client]
        place.called.set()

    def _make_room(self, client: str) -> None:
        most = max(self._waiting.values(), key=len, default=deque())
        if len(most) < len(self._waiting.get(client, ())) + 2:
            raise Crowded
        last = most[-1]
        self._leave(last)
        last.is_refused = True
        last.called.set()

    def _leave(self, place: _Place) -> None:
        places = self._waiting[place.client]
        places.remove(place)
        if not places:
            del self._waiting[place.client]


class SearchSlots:
    """Lets only so many searches run at once, and drops those whose browser left while they waited.

    A slot is free again when the answer begins: ranking is done then, and whoever reads slowly, or takes a
    long list, is in nobody's way.
    """

    def __init__(self, app: ASGIApp, *, slots: int, queue: int, is_search: Callable[[str], bool]) -> None:
        self.app = app
        self.turns = Turns(slots, queue)
        self.is_search = is_search

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.is_search(scope["path"]):
            await self.app(scope, receive, send)
            return
        caller = _Caller(receive)
        with SEARCHES.track_inprogress():
            try:
                if not await caller.take(self.turns, client_of(scope)):
                    return
            except Crowded:
                REFUSED.inc()
                what = "The server is busy with other searches."
                view = error_view(503, "Too many searches", what, "Try again in a moment.")
                answer = error_response(Request(scope), view, {"Retry-After": SECONDS_UNTIL_RETRY})
                await answer(scope, receive, send)
                return
        slot = _Slot(self.turns)
        try:
            if not await caller.has_left():
                await self.app(scope, caller.receive, slot.sending(send))
        finally:
            slot.free()


class _Slot:
    """One request's place among the searches that run."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.is_free = False
        SEARCHES.inc()

    def free(self) -> None:
        """Once; again does nothing."""
        if not self.is_free:
            self.is_free = True
            SEARCHES.dec()
            self.turns.give_back()

    def sending(self, send: Send) -> Send:
        async def send_and_free(message: Message) -> None:
            self.free()
            await send(message)

        return send_and_free


class _Caller:
    """Who asked for a search; what they send before it runs is kept for it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self._has_left = False

    async def take(self, turns: Turns, client: str) -> bool:
        """Wait for a slot; False for somebody who left, whose place is free at once. Or Crowded."""
        if turns.n_free:
            await turns.take(client)
            return True
        has_slot = is_refused = False
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, group.cancel_scope)
            try:
                await turns.take(client)
                has_slot = True
            except Crowded:
                is_refused = True
            group.cancel_scope.cancel()
        if is_refused:
            raise Crowded
        if has_slot and self._has_left:
            turns.give_back()
        return has_slot and not self._has_left

    async def has_left(self) -> bool:
        """Whether they are gone, by what has come already."""
        with anyio.CancelScope() as scope:
            scope.cancel()
            await self._listen(scope)
        return self._has_left

    async def receive(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()

    async def _listen(self, waiting: anyio.CancelScope) -> None:
        """Until they leave, which ends the waiting; a body that goes on is left to whoever reads it."""
        is_more = bool(self._kept) and self._kept[-1].get("more_body", False)
        while len(self._kept) < 2 and not is_more and not self._has_left:  # noqa: PLR2004 (a request, an end)
            message = await self._receive()
            self._kept.append(message)
            is_more = message.get("more_body", False)
            self._has_left = message["type"] == "http.disconnect"
        if self._has_left:
            waiting.cancel()
