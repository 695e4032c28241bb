"""`saefari mcp`: the collections as tools for an agent."""

from __future__ import annotations

import threading

from app.cli.common import settings_of
from app.cli.options import EmbedBaseURL, Home, Host, Port


def mcp(home: Home = None, host: Host = None, port: Port = None, embed_base_url: EmbedBaseURL = None) -> None:
    """Serve every collection of the home folder to an agent: tools over standard input and output (MCP).

    Host and port are those of `saefari serve`, for the addresses in answers; nothing listens there.
    """
    from threadpoolctl import threadpool_limits

    from app.agents import Instrument

    settings = settings_of(home, host, port, embed_base_url)
    at = f"[{settings.host}]" if ":" in settings.host else settings.host
    endpoint = settings.encoder_endpoint(timeout=settings.embed_seconds, limit=settings.embed_seconds)
    instrument = Instrument(settings.home, settings.public_url or f"http://{at}:{settings.port}", endpoint)
    threading.Thread(target=instrument.load, daemon=True).start()  # while the agent introduces itself
    with threadpool_limits(1, user_api="blas"):
        instrument.server.run()
