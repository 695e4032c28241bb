"""What a run of visitors found, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.kept import Edit
from tests.soak.watching import Process


@dataclass
class Found:
    """All that a run brought."""

    workers: int
    users: int
    seconds: float
    database: str
    said: dict[str, Any]
    edits: list[Edit]
    before: list[Process]
    mark: list[Process]
    end: list[Process]
    after: list[Process]
    client: Process
    statuses: dict[str, int]
    bytes_of_database: int
    log: list[str]
    broken: list[str] = field(default_factory=list)


def as_table(found: Found) -> str:
    return "\n\n".join((_summary(found), _routes(found), _processes(found), _broken(found)))


def as_json(found: Found) -> dict[str, Any]:
    """One object; of processes what they were at each moment."""
    moments = {
        name: [asdict(each) for each in getattr(found, name)] for name in ("before", "mark", "end", "after")
    }
    return {
        "workers": found.workers, "users": found.users, "seconds": found.seconds, "database": found.database,
        "routes": found.said["routes"], "answers": found.said["answers"], "statuses": found.statuses,
        "edits": edits_by_state(found), "client": asdict(found.client),
        "bytes_of_database": found.bytes_of_database,
        **moments, "broken": found.broken,
    }  # fmt: skip


def edits_by_state(found: Found) -> dict[str, int]:
    return dict(Counter(edit.state or "no answer" for edit in found.edits))


def _summary(found: Found) -> str:
    answers = Counter[str]()
    for each in found.said["answers"].values():
        answers.update(each)
    total = sum(row["n"] for row in found.said["routes"])
    pages = sum(each.get("200", 0) + each.get("304", 0) for each in found.said["answers"].values())
    client = found.client.seconds / (found.client.seconds + sum(each.seconds for each in found.end))
    rows = (
        ("visitors, workers, database", f"{found.users}, {found.workers}, {found.database}"),
        ("seconds", f"{found.seconds:.0f}"),
        ("requests answered", f"{total:,} ({total / found.seconds:.0f} a second)"),
        ("given up for a newer one", f"{answers['left']:,}"),
        ("told that nothing changed (304)", f"{answers['304']:,} ({answers['304'] / max(1, pages):.0%})"),
        ("told to come again (503, 429)", f"{answers['503'] + answers['429']:,}"),
        ("edits", ", ".join(f"{state} {n:,}" for state, n in sorted(edits_by_state(found).items()))),
        ("database", f"{found.bytes_of_database / 2**20:.1f} MiB"),
        ("processor time of the client", f"{found.client.seconds:.0f} s ({client:.0%} of what both took)"),
    )
    return _table(("", ""), rows)


def _routes(found: Found) -> str:
    columns = ("p50_ms", "p99_ms", "longest_ms", "failures")
    rows = [
        (f"`{each['route']}`", f"{each['n']:,}", f"{each['n'] / found.seconds:.2f}", *_rounded(each, columns))
        for each in sorted(found.said["routes"], key=lambda each: -each["n"])
    ]
    return _table(("route", "requests", "a second", "p50 ms", "p99 ms", "longest ms", "errors"), rows)


def _rounded(row: dict[str, Any], columns: Iterable[str]) -> list[str]:
    return [f"{row[name]:,.0f}" for name in columns]


def _processes(found: Found) -> str:
    moments = (("before", found.before), ("minute 2", found.mark), ("end", found.end), ("after", found.after))
    rows = [_row(when, each) for when, processes in moments for each in processes]
    return _table(
        ("when", "process", "RSS MiB", "PSS MiB", "files", "sockets", "threads", "processor s"), rows
    )


def _row(when: str, each: Process) -> tuple[str, ...]:
    memory = (f"{each.rss:.0f}", f"{each.pss:.0f}" if each.pss else "?")
    return (
        when,
        each.name,
        *memory,
        *map(str, (each.files, each.sockets, each.threads, round(each.seconds))),
    )


def _broken(found: Found) -> str:
    return "\n".join(f"BROKEN {each}" for each in found.broken) or "Every law holds."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, tuple("---" for _ in head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
