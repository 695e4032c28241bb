"""Servers on which people write, and the people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.authored import access
from app.authored.store import Actor, Role, Store
from tests.app.served import Planted, serve

HERE = {"Sec-Fetch-Site": "same-origin"}  # what a browser says of a form of our own pages


def token(url: str, name: str = "ann", scope: Role = Role.EDITOR) -> str:
    """A new token of somebody."""
    store = Store.open(url)
    with store.write(Actor("root", Role.ADMIN, "test")) as writing:
        _, secret = access.create_token(writing, name, scope, timedelta(days=1))
    store.close()
    return secret


@dataclass
class Editing:
    """A server and its database."""

    app: FastAPI
    url: str
    store: Store

    def client(self, **how: Any) -> TestClient:
        """Another browser, that does not follow redirects. The server has started already."""
        return TestClient(self.app, follow_redirects=False, **how)

    def signed_in(self, name: str, scope: Role = Role.EDITOR) -> TestClient:
        client = self.client()
        answer = client.post("/sign-in", data={"token": token(self.url, name, scope)}, headers=HERE)
        assert answer.status_code == 303
        return client


@contextmanager
def editing_on(planted: Planted, url: str, **settings: Any) -> Iterator[Editing]:
    """A server on which people write to this database."""
    app = serve(planted, editing=True, database_url=url, **settings)
    with TestClient(app), closing(Store.open(url)) as store:
        yield Editing(app, url, store)
