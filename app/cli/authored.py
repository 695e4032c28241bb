"""`saefari db | user | token | session | audit | authored | backup | restore`: what people write, and who."""

from __future__ import annotations

import getpass
import re
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import settings_of
from app.cli.options import Home, NameOfCollection
from app.settings import Settings
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from app.authored.carrying import Carried
    from app.authored.store import Actor, Role, Store

_UNITS = {"m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}

db = typer.Typer(help="The database of what people write.", no_args_is_help=True)
user = typer.Typer(help="People, and what each may do at most.", no_args_is_help=True)
token = typer.Typer(help="Keys for people who may write.", no_args_is_help=True)
session = typer.Typer(help="Who is signed in.", no_args_is_help=True)
authored = typer.Typer(help="What people wrote, as a file, or on another SAE.", no_args_is_help=True)


# --- the database -----------------------------------------------------------------------------------


@db.command("upgrade")
def db_upgrade(home: Home = None) -> None:
    """Make the database, or bring it to the revision of this version. Back it up before."""
    from app.authored import schema
    from app.authored.engines import Database

    url = settings_of(home).authored_url
    before, after = schema.upgrade(url)
    shown = Database(url).shown
    if before == after:
        typer.echo(f"{shown} is at revision {after} already")
    else:
        typer.echo(f"{shown}: from {before or 'nothing'} to revision {after}")


@db.command("current")
def db_current(home: Home = None) -> None:
    """Say at which revision the database is; exit status 1 if another is needed."""
    from app.authored import schema
    from app.authored.engines import Database
    from app.authored.store import check_revision

    url = settings_of(home).authored_url
    found, shown = schema.current(url), Database(url).shown
    typer.echo(f"{shown}: {f'revision {found}' if found else 'no tables yet'}")
    check_revision(found, shown)


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; what was there is replaced.")],
    home: Home = None,
) -> None:
    """Copy all that people wrote to a file, while the server goes on. PostgreSQL has pg_dump for this."""
    from app.authored.backup import back_up

    size = back_up(settings_of(home).authored_url, file)
    typer.echo(f"{file}: {size:,} bytes")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `saefari backup` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002
    home: Home = None,
) -> None:
    """Put a backup in the place of what is there, which is kept beside it."""
    from app.authored import backup as backups
    from app.authored.engines import Database
    from app.authored.store import utc_now

    url = settings_of(home).authored_url
    database = Database(url)
    if database.path is not None and database.path.exists() and not yes:
        typer.confirm(f"Replace what is in {database.shown}?", abort=True)
    kept = backups.restore(url, file, utc_now())
    typer.echo(f"{database.shown} is what {file} was" + (f". What was there before: {kept}" if kept else ""))


# --- people -----------------------------------------------------------------------------------------


@user.command("list")
def user_list(home: Home = None) -> None:
    """Say who is known, and with which role."""
    from app.authored import access

    with closing(_open(settings_of(home))) as store, store.read(patient=True) as reading:
        for each in access.list_people(reading):
            typer.echo(f"{each.name:24} {each.role.word:7} since {each.created:%Y-%m-%d}")


@user.command("set")
def user_set(
    name: Annotated[str, typer.Argument(help="The person, known or not yet.")],
    role: Annotated[str, typer.Option("--role", help="reader, editor or admin: what they may do at most.")],
    home: Home = None,
) -> None:
    """Say what somebody may do at most. It holds at once, in open sessions too."""
    from app.authored import access
    from app.authored.store import Role

    chosen = Role.of(role)
    with closing(_open(settings_of(home))) as store, store.write(_operator()) as writing:
        access.set_role(writing, name, chosen)
    typer.echo(f"{name.strip().lower()}: {chosen.word}")


# --- tokens -----------------------------------------------------------------------------------------


@token.command("create")
def token_create(
    user: Annotated[str, typer.Argument(help="Whose it is: their name, under which they will write.")],
    scope: Annotated[
        str, typer.Option("--scope", help="read, edit or admin: what its holder may do at most.")
    ] = "edit",
    expires: Annotated[str, typer.Option("--expires", help="After how long: 30m, 12h, 90d, 2w, 1y.")] = "90d",
    home: Home = None,
) -> None:
    """Make a token and print it, this once: only its checksum is kept."""
    from app.authored import access

    role, life = _role_of(scope), _life_of(expires)
    settings = settings_of(home)
    with closing(_open(settings)) as store, store.write(_operator()) as writing:
        made, secret = access.create_token(writing, user, role, life)
    until = f"{made.expires:%Y-%m-%d %H:%M} UTC"
    typer.echo(
        f"Token {made.id} of {made.user}, {made.scope.word}, until {until}. It is shown only now:", err=True
    )
    typer.echo(secret)


@token.command("list")
def token_list(home: Home = None) -> None:
    """Say which tokens there are, latest first."""
    from app.authored import access

    with closing(_open(settings_of(home))) as store, store.read(patient=True) as reading:
        found, now = access.list_tokens(reading), store.now()
    for each in found:
        used = f"{each.used:%Y-%m-%d}" if each.used else "never"
        dates = f"made {each.created:%Y-%m-%d}, expires {each.expires:%Y-%m-%d}, last used {used}"
        typer.echo(
            f"{each.id:>5}  {each.user:24} {each.scope.word:7} {each.state(now):8} {dates}  {each.hint}…"
        )
    if not found:
        typer.echo("There are no tokens. `saefari token create NAME` makes one")


@token.command("revoke")
def token_revoke(
    number: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Its number in `saefari token list`.")],
    home: Home = None,
) -> None:
    """End a token, and every session that was begun with it, at once."""
    from app.authored import access

    with closing(_open(settings_of(home))) as store, store.write(_operator()) as writing:
        ended = access.revoke_token(writing, number)
    typer.echo(f"Token {ended.id} of {ended.user} is revoked")


# --- sessions and what was done ---------------------------------------------------------------------


@session.command("list")
def session_list(
    user: Annotated[str, typer.Option("--user", help="Only those of this person.")] = "",
    home: Home = None,
) -> None:
    """Say which sessions go on, latest first."""
    from app.authored import access

    with closing(_open(settings_of(home))) as store, store.read(patient=True) as reading:
        for each in access.list_sessions(reading, store.now(), user):
            dates = f"since {each.created:%Y-%m-%d %H:%M}, until {each.expires:%Y-%m-%d %H:%M} UTC"
            typer.echo(f"{each.id:>5}  {each.user:24} by token {each.token}, {dates}")


@session.command("revoke")
def session_revoke(
    number: Annotated[
        int | None, typer.Argument(min=1, max=2**63 - 1, help="Its number in `saefari session list`.")
    ] = None,
    user: Annotated[str, typer.Option("--user", help="All sessions of this person.")] = "",
    home: Home = None,
) -> None:
    """End a session, or all of a person, at once. Their tokens stay: see `saefari token revoke`."""
    from app.authored import access

    if (number is None) == (not user):
        raise SaefariError("Which session?", remedy="Give its number, or --user NAME for all of a person.")
    with closing(_open(settings_of(home))) as store, store.write(_operator()) as writing:
        if number is None:
            ended = access.end_sessions(writing, user)
            typer.echo(f"{ended:,} session{'' if ended == 1 else 's'} of {user} ended")
        else:
            access.end_session(writing, number)
            typer.echo(f"Session {number} ended")


def audit(  # noqa: PLR0917 (one argument for each option)
    user: Annotated[str, typer.Option("--user", help="Only what this person did.")] = "",
    action: Annotated[str, typer.Option("--action", help="Only this: label, note, vote, token, ...")] = "",
    about: Annotated[
        str, typer.Option("--about", help='Only what was done to this: "feature NAME SAE 812", "token 3".')
    ] = "",
    since: Annotated[str, typer.Option("--since", help="Not before: 2026-11-23, or 12h, 7d ago.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Whole, as JSON lines.")] = False,  # noqa: FBT002
    home: Home = None,
) -> None:
    """Say who changed what, latest first."""
    from app.authored.audit import walk_audit

    with closing(_open(settings_of(home))) as store:
        moment = _moment_of(since, store.now()) if since else None
        for each in walk_audit(store, actor=user.strip().lower(), action=action, thing=about, since=moment):
            line = f"{each.at:%Y-%m-%d %H:%M:%S}  {each.actor} ({each.via})  {each.action}: {each.thing}"
            typer.echo(each.printed() if as_json else line)


# --- in and out -------------------------------------------------------------------------------------


@authored.command("export")
def authored_export(
    file: Annotated[Path, typer.Argument(help="The file to write: JSON lines.")],
    collection: Annotated[str, typer.Option("--collection", help="Only what is about this one.")] = "",
    public: Annotated[bool, typer.Option("--public", help="Only what everybody may see.")] = False,  # noqa: FBT002
    home: Home = None,
) -> None:
    """Write labels with their history, votes, notes, lists, lenses, links to a file. No tokens, no audit."""
    from app.authored import transfer

    with closing(_open(settings_of(home))) as store:
        counts = transfer.export(store, file, collection, is_public=public)
    typer.echo(f"{file}: {_counted(counts)}")


@authored.command("import")
def authored_import(
    file: Annotated[Path, typer.Argument(help="A file that `saefari authored export` wrote.")],
    home: Home = None,
) -> None:
    """Add what a file has and the database has not, all or nothing; what is there is not changed."""
    from app.authored import transfer

    with closing(_open(settings_of(home))) as store:
        taken = transfer.import_file(store, file, _operator())
    typer.echo(f"Added: {_counted(taken.added)}. There already: {_counted(taken.same)}")
    for problem in taken.differing:
        typer.echo(problem, err=True)
    if taken.differing:
        typer.echo(
            f"{len(taken.differing):,} are other here than in the file, and stay as they are", err=True
        )


@authored.command("carry")
def authored_carry(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    to: Annotated[str, typer.Option("--to", help="The SAE to carry to; default: the first.")] = "",
    source: Annotated[
        str, typer.Option("--from", help="The SAE that was written about; default: all that are gone.")
    ] = "",
    was: Annotated[str, typer.Option("--was", help="The former name of the collection.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be carried.")] = False,  # noqa: FBT002
    home: Home = None,
) -> None:
    """Copy what was written about an SAE to another one, feature by feature, where the direction is the same.

    What has no match is listed and stays where it is.
    """
    from app.authored import carrying
    from app.catalog import FILE_NAME, Catalog
    from sae_core.explorer import Explorer

    settings = settings_of(home)
    explorer = Explorer.load(settings.collections / collection)
    with (
        closing(Catalog(explorer.path / FILE_NAME, is_timed=False)) as catalog,
        closing(_open(settings)) as store,
    ):
        goal = carrying.Goal.of(
            explorer, store, lambda ids: set(catalog.find_positions(ids)), to, source, was
        )
        done = carrying.carry(store, goal, _operator(), dry_run=dry_run)
    _print_carrying(done, dry_run=dry_run)


def _print_carrying(done: Carried, *, dry_run: bool) -> None:
    for line in done.lines:
        typer.echo(line)
    for line in done.left:
        typer.echo(line, err=True)
    verb = "Would be carried" if dry_run else "Carried"
    typer.echo(f"{verb}: {_counted(done.counts)}. Left where it is: {len(done.left):,}")


def _counted(counts: dict[str, int]) -> str:
    plural = {name: f"{name}es" if name.endswith("s") else f"{name}s" for name in counts}
    shown = [f"{n:,} {name if n == 1 else plural[name]}" for name, n in counts.items() if n]
    return ", ".join(shown) or "nothing"


def _role_of(scope: str) -> Role:
    from app.authored.store import Role

    try:
        return {"read": Role.READER, "edit": Role.EDITOR, "admin": Role.ADMIN}[scope]
    except KeyError:
        raise SaefariError(f"--scope {scope} is none.", remedy="Choose read, edit or admin.") from None


def _life_of(text: str) -> timedelta:
    if (life := _span_of(text)) is None:
        raise SaefariError(f"--expires {text} is no time.", remedy="Write 30m, 12h, 90d, 2w or 1y.")
    return life


def _span_of(text: str) -> timedelta | None:
    found = re.fullmatch(r"([0-9]{1,5})([mhdwy])", text)
    return timedelta(days=int(found[1]) * _UNITS[found[2]]) if found else None


def _moment_of(text: str, now: datetime) -> datetime:
    """A day, in UTC, or so long ago."""
    with suppress(ValueError, OverflowError):
        span = _span_of(text)
        return now - span if span else datetime.fromisoformat(text).replace(tzinfo=UTC)
    raise SaefariError(f"--since {text} is no time.", remedy="Write 2026-11-23, or 12h, 7d, 2w.")


def _open(settings: Settings) -> Store:
    from app.authored.store import Store

    return Store.open(settings.authored_url)


def _operator() -> Actor:
    """Whoever can read the database's address may do everything."""
    from app.authored.store import Actor, Role
    from app.authored.texts import BadText, user_name

    name = "operator"
    with suppress(BadText, OSError, KeyError):
        name = user_name(getpass.getuser())
    return Actor(name, Role.ADMIN, "command line")
