"""The audit table, for admins: who changed what, before and after."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from app import urls
from app.authored.audit import read_audit
from app.authored.store import NotAllowed, Role
from app.authored.texts import MAX_NUMBER
from app.deps import add_page
from app.editing.visitors import get_actor, get_store
from app.pages import page
from app.query import Parameters
from app.views.editing import AuditView

router = APIRouter()

PAGE_SIZE = 50
FILTERS = ("user", "action", "about")
MAX_ASKED = 500


async def audit_page(request: Request) -> Any:
    return page(request, "audit", await run_in_threadpool(_audit, request))


def _audit(request: Request) -> AuditView:
    actor = get_actor(request)
    if actor.role < Role.ADMIN:
        raise NotAllowed("Only admins read who changed what.", remedy="Ask one of them.")
    parameters = Parameters(request.scope["query_string"])
    asked = {name: parameters.text(name, MAX_ASKED) for name in FILTERS}
    before = parameters.integer("before", 1, MAX_NUMBER)
    with get_store(request).read() as session:
        user, action, about = asked.values()
        found = read_audit(
            session, actor=user.lower(), action=action, thing=about, before=before, limit=PAGE_SIZE + 1
        )
    shown = found[:PAGE_SIZE]
    given = [(name, text) for name, text in asked.items() if text]
    older = [*given, ("before", str(shown[-1].id))] if len(found) > PAGE_SIZE else []
    return AuditView(
        url=urls.with_parameters(urls.audit(), given),
        records=shown,
        older_url=urls.with_parameters(urls.audit(), older) if older else None,
        **asked,
    )


add_page(router, urls.audit(), audit_page)
