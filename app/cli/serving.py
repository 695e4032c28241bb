"""`saefari demo | serve | publish | rollback | doctor`: explorers and their files."""

from __future__ import annotations

import signal
import socket
import sys
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.building import build_collection, load_texts, print_summary
from app.cli.common import settings_of, warn_of_key
from app.cli.corpora import harvest_docstrings
from app.cli.options import EmbedBaseURL, Home, Host, NameOfCollection, Port, Quiet
from app.console import Console
from app.settings import Settings, collect_numbers_in
from sae_core.errors import ArtifactError, NotFoundError, SaefariError

if TYPE_CHECKING:
    from fastapi import FastAPI

SECONDS_BEYOND = 5  # the time of those who may finish, until what is still there is cancelled
SECONDS_WITHOUT_A_SIGN = 30  # of a worker, before it is replaced
DEMO = "demo"
DEMO_TITLE = "Python documentation"


def demo(home: Home = None, host: Host = None, port: Port = None, quiet: Quiet = False) -> None:  # noqa: FBT002
    """Build an explorer of the docstrings on this machine, if it is not there yet, and serve it."""
    settings = settings_of(home, host, port)
    if not _is_sound(settings.collections / DEMO):
        path = harvest_docstrings(settings, None, Console(quiet=quiet))
        print_summary(build_collection(load_texts(path, settings), settings, DEMO, DEMO_TITLE, quiet=quiet))
    serve_home(settings)


def serve(
    home: Home = None,
    host: Host = None,
    port: Port = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=256, help="Processes.")] = None,
    embed_base_url: EmbedBaseURL = None,
) -> None:
    """Serve every collection of the home folder."""
    settings = settings_of(home, host, port, embed_base_url, workers)
    if endpoint := settings.encoder_endpoint():
        warn_of_key(endpoint)
    serve_home(settings)


def doctor(home: Home = None) -> None:
    """Check every file of every collection; exit status 1 if one is damaged."""
    from sae_core import artifact

    settings = settings_of(home)
    folders = artifact.collections(settings.home)
    typer.echo(f"Home: {settings.home.resolve()}, {len(folders)} collection(s)")
    sound = True
    for folder in folders:
        try:
            generation = artifact.current(folder)
            files = artifact.check(generation)
        except SaefariError as error:
            typer.echo(f"{folder.name}: {error}")
            sound = False
            continue
        size = sum(file.size for file in files) / 2**20
        typer.echo(f"{folder.name}: generation {generation.name}, {len(files)} files, {size:,.1f} MiB")
        for file in files:
            state = "DAMAGED" if file.problem else "ok"
            typer.echo(f"  {state:8}{file.size:>14,}  {file.path} {file.problem}".rstrip())
            sound = sound and not file.problem
    if not sound:
        typer.echo("Rebuild what is damaged with `saefari build`, or restore it from a backup.")
        raise typer.Exit(1)


def publish(
    collection: NameOfCollection,
    generation: Annotated[str, typer.Argument(help="As `saefari doctor` and /ready name it.")],
    home: Home = None,
) -> None:
    """Serve this generation of a collection. A server that runs takes it up by itself."""
    _serve_generation(settings_of(home).collections / collection, generation)


def rollback(collection: NameOfCollection, home: Home = None) -> None:
    """Serve the generation of a collection that came before the one that is served."""
    from sae_core import artifact

    folder = settings_of(home).collections / collection
    served = artifact.current(folder).name
    earlier = [name for name in artifact.generations(folder) if name < served]
    if not earlier:
        what = f"{collection} has no generation before {served}."
        raise NotFoundError(what, remedy="Build it again from an earlier corpus.")
    _serve_generation(folder, earlier[-1])


def _serve_generation(folder: Path, generation: str) -> None:
    from sae_core import artifact

    artifact.current(folder)  # there is such a collection
    with artifact.locked(folder):
        artifact.serve(folder, generation)
    typer.echo(f"{folder.name} is served from generation {generation}")


def _is_sound(collection: Path) -> bool:
    """Whether there is a generation that can be served; says what is wrong with a damaged one."""
    from sae_core import artifact

    try:
        artifact.verify(artifact.current(collection))
    except NotFoundError:
        return False
    except ArtifactError as error:
        typer.echo(f"{error.what} It is built again.", err=True)
        return False
    return True


def serve_home(settings: Settings) -> None:
    import uvicorn

    from app.workers import Supervisor

    if settings.editing:
        from app.authored.store import Store

        Store.open(settings.authored_url).close()  # or say what to do: no worker could start
    if settings.otlp_endpoint:
        import app.tracing  # noqa: F401 (the same)

    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Saefari: http://{shown}:{port}/  (Ctrl-C stops it)")
    config = uvicorn.Config(
        partial(_application, settings),
        factory=True,
        http="app.connections:Bounded",  # by name, as the parent of workers needs none of what it brings
        ws="none",
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=ceil(settings.stop_seconds) + SECONDS_BEYOND,
        workers=settings.workers,
        timeout_worker_healthcheck=SECONDS_WITHOUT_A_SIGN,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application believes those of the settings
    )
    server = uvicorn.Server(config)
    with TemporaryDirectory(prefix="saefari-numbers-") as folder:
        if settings.workers > 1:
            collect_numbers_in(folder)
        _observe(settings)
        if settings.workers == 1:
            # What uvicorn comes back to at its end: without this the process would end as one killed.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            server.run(sockets=[listener])
        else:
            Supervisor(config, [listener]).run()


def _observe(settings: Settings) -> None:
    from app import logs, observing

    logs.set_up(settings)
    if settings.metrics_port:
        is_parent = settings.workers > 1
        observing.serve_numbers(settings.metrics_host, settings.metrics_port, of_workers=is_parent)


def _application(settings: Settings) -> FastAPI:
    from app import logs
    from app.main import create_app  # not above: a parent of workers needs none of what this brings

    logs.set_up(settings)
    return create_app(settings)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        what = f"{host}:{port} cannot be listened on: {error.strerror}."
        raise SaefariError(what, remedy="Choose another with --port, or stop what is using it.") from error
    listener.set_inheritable(True)
    return listener
