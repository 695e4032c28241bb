"""Every address of this package."""

from __future__ import annotations

from app.editing import labels, lenses, links, lists, notes, records, signing

ROUTERS = (
    signing.router,
    records.router,
    labels.router,
    notes.router,
    links.router,
    lists.router,
    lenses.router,
)
