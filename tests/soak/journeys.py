"""Visitors for locust: who reads, searches, drags sliders, writes; and a journal of what they were told.

`tests/soak/run.py` starts it in a process of its own, with a plan of where to go.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any, ClassVar, TextIO
from urllib.parse import quote_plus

import gevent
from locust import FastHttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from tests.soak.browser import ANSWERS, Answer, Browser, Page, route

DEBOUNCE = 0.08  # seconds: hx-trigger="input delay:80ms" of templates/search/_panel.html
CONTESTED = 6  # features that all editors write about
WALKED = re.compile(
    r"/$|/docs|/s/|/\{collection\}(/(documents|compare|lists|lenses|links)(/\{n\})?|/\{sae\}"
    r"(/(search|separate|features|families)(/(\{n\}|random))?)?)?"
)
FOR_PROGRAMS = re.compile(r".*\.(json|csv|bib|ris|atom|png)")


class Plan:
    """What the run was told: filled once, before anybody comes."""

    given: ClassVar[dict[str, Any]] = {}
    pace: ClassVar[float] = 1.0
    journal: ClassVar[TextIO]
    editors: ClassVar[list[tuple[str, str]]] = []
    numbers = itertools.count(1)


def _options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--pace", type=float, default=1.0)


def _prepare(environment: Environment, **_: Any) -> None:
    assert environment.parsed_options is not None
    path: Path = environment.parsed_options.plan
    Plan.given, Plan.pace = json.loads(path.read_text()), environment.parsed_options.pace
    Plan.journal = path.with_name("journal.jsonl").open("w")
    Plan.editors = list(Plan.given["tokens"].items())
    Editor.fixed_count = len(Plan.editors)


def _report(environment: Environment, **_: Any) -> None:
    routes = [
        {
            "route": each.name, "n": each.num_requests,
            "p50_ms": each.get_response_time_percentile(0.5),
            "p99_ms": each.get_response_time_percentile(0.99),
            "longest_ms": each.max_response_time, "failures": each.num_failures,
        }
        for each in environment.stats.entries.values()
    ]  # fmt: skip
    failures = [
        f"{each.name}: {each.error} ({each.occurrences} times)" for each in environment.stats.errors.values()
    ]
    said = {"routes": routes, "answers": ANSWERS, "failures": failures}
    Path(Plan.journal.name).with_name("answers.json").write_text(json.dumps(said))
    Plan.journal.close()


class Visitor(FastHttpUser):
    """Somebody with a browser and an address of their own."""

    abstract = True
    wait_time = constant(0)  # they rest where people do: while they read

    def on_start(self) -> None:
        n = next(Plan.numbers)
        self.browser = Browser(self, f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}")
        self.place: dict[str, Any] = random.choice(Plan.given["places"])
        self.think(0, 3)

    @staticmethod
    def think(low: float, high: float) -> None:
        """Seconds in which somebody reads."""
        gevent.sleep(random.uniform(low, high) * Plan.pace)

    @property
    def base(self) -> str:
        return f"/{self.place['collection']}/{self.place['sae']}"

    def words(self) -> str:
        return " ".join(random.sample(self.place["words"], random.choice((1, 1, 2))))

    def searched(self, words: str, *more: str) -> str:
        return "&".join([f"{self.base}/search?q={quote_plus(words)}", *more])


class Reader(Visitor):
    """Comes from outside, follows links, goes back, reloads; now and then a program reads the same."""

    weight = 8

    @task
    def walk(self) -> None:
        starts = ("/", f"/{self.place['collection']}", f"{self.base}/features", f"{self.base}/families")
        trail = [self.browser.open(random.choice(starts))]
        for _ in range(random.randint(3, 9)):
            self.think(2, 8)
            chance = random.random()
            if chance < 0.15:
                trail.append(self.browser.open(random.choice(trail).url))  # back
            elif chance < 0.2:
                self.browser.open(trail[-1].url, again=True)
            elif chance < 0.25:
                self.fetch_file(trail[-1])
            else:
                trail.append(self.browser.open(self.link(trail[-1])))
        if random.random() < 0.2:
            self.on_start()  # somebody else, who has nothing of it yet

    def link(self, page: Page) -> str:
        by_route: dict[str, list[str]] = {}
        for each in page.links if page.url != "/docs" else ():  # which shows addresses that are only examples
            if WALKED.fullmatch(name := route(each)):
                by_route.setdefault(name, []).append(each)
        return random.choice(random.choice(list(by_route.values()))) if by_route else self.base

    def fetch_file(self, page: Page) -> None:
        files = [each for each in page.links if FOR_PROGRAMS.fullmatch(route(each))]
        self.browser.fetch(random.choice(files) if files else f"{self.base}/features.json")


class Searcher(Visitor):
    """Asks in words, looks at pages of results, marks some, opens documents."""

    weight = 5

    @task
    def look(self) -> None:
        words = self.words()
        page = self.browser.open(self.searched(words))
        for _ in range(random.randint(1, 4)):
            self.think(2, 8)
            documents = [each for each in page.links if route(each).endswith("/documents/{n}")]
            chance = random.random()
            if chance < 0.4 and documents:
                self.browser.open(random.choice(documents))
            elif chance < 0.6:
                page = self.browser.open(self.searched(words, f"page={random.randint(1, 3)}"))
            elif chance < 0.8 and documents:
                marked = documents[0].rpartition("/")[2]
                self.ask(self.searched(words, f"{random.choice(('up', 'why'))}={marked}"), "section#results")
            else:
                self.find(words)

    def ask(self, url: str, target: str) -> Page | None:
        self.browser.replace(url, target)
        return self.browser.settle()

    def find(self, words: str) -> None:
        """The box that finds features, while somebody types; it waits for 150 ms without a letter."""
        word = random.choice(self.place["words"])[:8]
        for n in range(2, len(word) + 1):
            gevent.sleep(random.uniform(0.08, 0.3))
            if random.random() < 0.5:
                self.browser.replace(self.searched(words, f"find={quote_plus(word[:n])}"), "div#found")
        self.browser.settle()


class Steerer(Visitor):
    """Searches and drags sliders: most of what a hand asks for is asked anew before it is answered."""

    weight = 5

    @task
    def steer(self) -> None:
        words = self.words()
        moved = {str(random.choice(self.place["latents"])): 0.1}  # added from its own page
        page = self.browser.open(self.moved_to(words, moved))
        for _ in range(random.randint(2, 5)):
            self.think(1, 5)
            if not page.sliders:
                return
            slider = random.choice(page.sliders[:10])
            self.drag(words, moved, slider.latent, slider.low, slider.high)
        self.think(2, 6)
        self.browser.open(self.moved_to(words, moved))  # the link to what was found, opened as a page

    def moved_to(self, words: str, moved: dict[str, float]) -> str:
        return self.searched(words, *(f"f={latent}:{strength:+.3f}" for latent, strength in moved.items()))

    def drag(self, words: str, moved: dict[str, float], latent: str, low: float, high: float) -> None:
        for _ in range(random.randint(3, 9)):
            gevent.sleep(random.uniform(0.05, 0.35) + DEBOUNCE)  # the hand moves, then rests
            moved[latent] = random.uniform(low, high)
            self.browser.replace(self.moved_to(words, moved), "section#results")
        self.browser.settle()


class Editor(Visitor):
    """Reads, and writes labels, votes and notes; keeps what was acknowledged."""

    def on_start(self) -> None:
        super().on_start()
        self.name, self.token = Plan.editors.pop()
        self.n = 0
        self.sign_in()

    def on_stop(self) -> None:
        Plan.editors.append((self.name, self.token))

    def sign_in(self) -> None:
        self.browser.open("/sign-in")
        while (
            answer := self.browser.send("/sign-in", {"token": self.token, "next": self.base})
        ).status == 429:
            gevent.sleep(float(answer.headers["retry-after"]))
        assert answer.status == 303, answer.text
        self.browser.open(answer.headers["location"])

    @task
    def write(self) -> None:
        acts = (self.label, self.vote, self.note, self.link)
        (act,) = random.choices(acts, weights=(3, 2, 2, 1))
        act()
        self.think(2, 8)
        if random.random() < 0.03:
            self.browser.send("/sign-out", {"next": "/"})
            self.sign_in()

    # --- what they write ---------------------------------------------------------------------------

    def label(self) -> None:
        latents: list[int] = self.place["latents"]
        latent = random.choice(latents[:CONTESTED] if random.random() < 0.5 else latents)
        page = self.browser.open(f"{self.base}/features/{latent}")
        self.think(2, 8)
        while fields := page.form("/edit/label"):
            verdict = random.choice(("", "accepted", "rejected")) if fields.get("automatic") else ""
            said = {"text": self.text(), "explanation": f"{self.text()}\n\nAnd so on.", "verdict": verdict}
            answer = self.store("label", _thing(fields), said, {**fields, **said})
            if answer.status != 409 or random.random() < 0.3:
                return
            self.think(1, 4)  # both texts are read, then one's own is stored over the other
            page = Page.read(page.url, answer.text)

    def vote(self) -> None:
        page = self.browser.open(f"{self.base}/features/{random.choice(self.place['latents'])}")
        self.think(1, 5)
        fields = page.form("/edit/vote")
        values = re.findall(r'name="value" value="(right|wrong|neither)"', page.text)
        if fields and values:
            value = random.choice(values)
            number = {"right": 1, "wrong": -1, "neither": 0}[value]
            after = {"text": fields["text"], "value": number} if number else None
            self.store("vote", _thing(fields), after, {**fields, "value": value})

    def note(self) -> None:
        documents: list[str] = self.place["documents"]
        about = f"{self.base}/features/{random.choice(self.place['latents'])}"
        page = self.browser.open(random.choice((about, random.choice(documents))))
        self.think(2, 8)
        mine = page.form("/edit/note", having='name="slug"')
        if mine and random.random() < 0.3:
            self.store("note", f"note {mine['slug']}", None, mine, "/edit/note/remove")
            return
        fields = mine if mine and random.random() < 0.5 else page.form("/edit/note", having="text-new")
        if fields is None:
            fields = page.form("/edit/note")
        if fields is not None:
            said = {"text": self.text(), "visibility": random.choice(("public", "public", "private"))}
            self.store("note", f"note {fields['slug']}" if "slug" in fields else "", said, {**fields, **said})

    def link(self) -> None:
        """A short link to a view that nobody else has, followed by whoever gets it, sometimes taken away."""
        latent, strength = random.choice(self.place["latents"]), random.uniform(0.05, 0.5)
        page = self.browser.open(self.searched(self.words(), f"f={latent}:{strength:+.3f}"))
        self.think(2, 6)
        if (fields := page.form("/edit/link")) is None:
            return
        said = {"title": self.text(), "visibility": random.choice(("public", "unlisted", "private"))}
        answer = self.store("link", "", {**said, "target": fields["target"]}, {**fields, **said})
        if answer.status != 303:
            return
        at = answer.headers["location"]
        self.browser.open(f"/s/{at.rpartition('/')[2]}")
        self.think(1, 3)
        removal = self.browser.open(at).form("/edit/link/remove")
        if removal is not None and random.random() < 0.3:
            self.store("link", f"link {removal['slug']}", None, removal, "/edit/link/remove")

    # --- what was said to be stored ----------------------------------------------------------------

    def text(self) -> str:
        """Words that nobody else writes, nor this person again."""
        self.n += 1
        return f"{self.name} said this at {self.n}"

    def store(
        self, action: str, thing: str, after: dict[str, Any] | None, fields: dict[str, str], path: str = ""
    ) -> Answer:
        """Send it, and keep what was answered; whoever was told that it is stored sees it at once."""
        number = next(Plan.numbers)
        kept = {"action": action, "thing": thing, "after": after, "actor": self.name}
        _note(number, "sent", **kept)
        answer = self.browser.send(path or f"/edit/{action}", fields)
        _note(number, {303: "stored", 409: "conflict"}.get(answer.status, f"answered {answer.status}"))
        if answer.status == 303:
            page = self.browser.open(answer.headers["location"].partition("#")[0])
            said = (after or {}).get("title") or (after or {}).get("text", "")
            if action != "vote" and said not in page.text:
                _note(number, "unseen")
        return answer


def _thing(fields: dict[str, str]) -> str:
    """As the audit table names what a form is about."""
    return " ".join(fields[name] for name in ("kind", "collection", "sae", "key") if fields.get(name))


def _note(number: int, state: str, **more: Any) -> None:
    Plan.journal.write(json.dumps({"id": number, "state": state, **more}) + "\n")
    Plan.journal.flush()


hooks: Any = events  # which has no types
hooks.init_command_line_parser.add_listener(_options)
hooks.init.add_listener(_prepare)
hooks.quitting.add_listener(_report)
