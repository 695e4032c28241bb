"""What processes take: memory, descriptors, threads, processor time, as Linux tells in /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process at one moment."""

    pid: int
    name: str
    rss: float  # MiB
    pss: float  # MiB: what it shares is divided among those who do; 0 where the system does not say
    files: int  # descriptors that are no sockets
    sockets: int
    threads: int
    seconds: float  # of the processor, since it began

    @property
    def memory(self) -> float:
        """MiB."""
        return self.pss or self.rss


def look(pid: int, name: str = "server") -> list[Process]:
    """A process and those that it started, but none that ends meanwhile; workers numbered as they began."""
    found = []
    for at, child in enumerate(_family(pid)):
        command = _read(child, "cmdline").replace("\0", " ")
        part = "tracker" if "resource_tracker" in command else f"worker {at - 1}"
        try:
            found.append(_process(child, name if child == pid else part))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _process(pid: int, name: str) -> Process:
    memory = {
        key: int(size) / 1024 for key, size in re.findall(r"(Rss|Pss): +(\d+) kB", _read(pid, "smaps_rollup"))
    }
    opened = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            opened.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    sockets = sum(each.startswith("socket:") for each in opened)
    stat = _read(pid, "stat").rpartition(")")[2].split()
    seconds = (int(stat[11]) + int(stat[12])) / TICKS
    files = len(opened) - sockets
    return Process(pid, name, memory["Rss"], memory["Pss"], files, sockets, int(stat[17]), seconds)


def _family(pid: int) -> list[int]:
    children = [int(each) for each in _read(pid, f"task/{pid}/children").split()]
    return [pid, *sorted(children)]


def _read(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8")
