"""Every address of this package."""

from __future__ import annotations

from app.editing import labels, links, notes, signing

ROUTERS = (signing.router, labels.router, notes.router, links.router)
