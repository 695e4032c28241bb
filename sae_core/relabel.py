"""New labels for a collection that is built: by a language model, or its phrases made and scored again.

    relabelling = Relabelling(explorer, RelabelConfig(limit=100), home, console, read, endpoint=endpoint)
    relabelling.plan                        # what it would cost
    relabelling.run(rewrite_catalogue)      # a new generation; the old one stays until it is complete

A former label competes with the new ones, on documents that made neither, and stays in the history if it
loses. Features for which the model has no answer keep what they have.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sae_core import artifact
from sae_core.embed import Embedder, KeptEmbedder, is_remote, load_again
from sae_core.endpoint import Endpoint
from sae_core.errors import EmbeddingError, SaefariError, tidy
from sae_core.files import explain_write_errors, write_atomic
from sae_core.labels import Candidate, Evidence, Former, Label
from sae_core.labels.families import label_families, split_family
from sae_core.labels.llm import (
    FAMILY,
    INTERPRETER,
    Answer,
    LanguageModel,
    LLMPredictor,
    Question,
    estimate,
    family_question,
    interpreter_question,
)
from sae_core.labels.phrases import Labeller
from sae_core.labels.predictors import MeaningPredictor, WordPredictor, embed_labels
from sae_core.labels.scores import MIN_SCORED, N_ENTERED, Predictor, Split, hold_tournament, split_documents
from sae_core.labels.words import tokenise
from sae_core.report import report_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.corpus import Document
    from sae_core.explorer import Explorer, FeatureSet
    from sae_core.families import Family
    from sae_core.fit import Console

PREDICTORS = ("embedding", "bm25", "llm")
LLM_SOURCE = "llm:"  # then the model's name
N_KEPT = 10  # candidates of a label
N_FORMER = 20  # labels in its history
ROUNDS = 3  # of telling names apart
FEATURES_PER_BLOCK = 100  # in one tournament, so that questions do not pile up in memory
N_SAMPLED = 40  # features whose questions are written out to estimate those of the others
STAND_IN = "some phrase of words"  # for a label that is not known yet, in estimates

UNNAMED = "(no name)"  # of a family's parent, in a question
UNLABELLED = Label("", "none")

Read: TypeAlias = "Callable[[Sequence[int]], list[Document]]"
Report: TypeAlias = Callable[[int, int], None]
Rewrite: TypeAlias = "Callable[[Path, Path, Sequence[FeatureSet]], None]"
_Judges: TypeAlias = tuple[Predictor, list[Predictor]]


@dataclass(frozen=True)
class RelabelConfig:
    """Which labels are made again, and how they are judged. With a feature goes the family it is root of."""

    sae: str = ""  # "": the first of the collection
    predictor: str = ""  # of PREDICTORS; "": embedding where the collection has an encoder, else bm25
    only: tuple[int, ...] = ()  # these features; (): all that fire
    limit: int | None = None  # at most so many, those with the most documents


@dataclass(frozen=True)
class Plan:
    """What a run would ask of the language model. Tokens are estimates."""

    n_features: int
    n_families: int
    n_calls: int
    n_known: int  # answers that the cache has already; not among the calls
    tokens_in: int
    tokens_out: int

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are for a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


@dataclass
class Outcome:
    """What a run made."""

    folder: Path  # the generation that is served now
    n_features: int  # that were to get a label
    n_families: int
    n_failed: int = 0  # of both: the label stays, because an answer is missing
    sources: Counter[str] = field(default_factory=Counter)  # of the labels that the others have now
    n_changed: int = 0  # labels with another text than before
    n_asked: int = 0  # calls that were answered; not those that the cache knew
    tokens_in: int = 0  # as the endpoint counts
    tokens_out: int = 0
    problems: list[str] = field(default_factory=list)  # one sentence for each kind of failure


@dataclass(frozen=True)
class _Case:
    """A feature or a family that gets a label: what it was called, and the documents that will judge."""

    id: int  # the latent; of a family its root
    split: Split
    old: Label
    candidates: list[Candidate] = field(default_factory=list)  # those that compete first
    n_entered: int = 0  # that compete
    evidence: dict[str, Evidence] = field(default_factory=dict)  # by the source of a candidate
    settled: Label | None = None  # where there is nothing to compete about


class Relabelling:
    """The labels of one SAE of a collection, made again."""

    def __init__(
        self,
        explorer: Explorer,
        config: RelabelConfig,
        home: Path,
        console: Console,
        read: Read,
        *,
        endpoint: Endpoint | None = None,
        encoder_endpoint: Endpoint | None = None,
    ) -> None:
        """`read` gives documents by position. SaefariError for what cannot be done, before anything is.

        `endpoint` is that of the language model, `encoder_endpoint` that of an embedder openai:MODEL.
        """
        self.explorer, self.config, self.console, self._read = explorer, config, console, read
        self.collection = explorer.path.parents[1]  # where its generations are
        self.space = explorer.get_sae(config.sae or next(iter(explorer.saes)))
        self._cache, self._encoder_endpoint = home / "cache", encoder_endpoint
        self.model = None if endpoint is None else LanguageModel(endpoint, self._cache / "llm")
        self._check_predictor()
        self.latents = self._choose()
        chosen = set(self.latents)
        self.families = [family for family in self.space.families if family.id in chosen]

    @property
    def predictor(self) -> str:
        """The name in PREDICTORS of what judges the labels."""
        return self.config.predictor or ("embedding" if self.explorer.embedder_spec else "bm25")

    def _check_predictor(self) -> None:
        if self.predictor not in PREDICTORS:
            what = f"There is no predictor {self.predictor!r}."
            raise SaefariError(what, remedy=f"Choose one of {', '.join(PREDICTORS)}.")
        if self.predictor == "llm" and self.model is None:
            what = "The predictor llm needs a language model."
            raise SaefariError(what, remedy="Give --llm-base-url and --llm-model, or another predictor.")
        if self.predictor == "embedding" and not self.explorer.embedder_spec:
            what = f"{self.explorer.name} has no encoder: its embeddings were made elsewhere."
            raise EmbeddingError(what, remedy="Choose --predictor bm25 or llm.")

    def _choose(self) -> list[int]:
        """The features that get a label: those with the most documents first."""
        counts = self.space.codes.counts()
        for latent in self.config.only:
            if not 0 <= latent < len(counts):
                what = f"{self.space.name} has no feature {latent}."
                raise SaefariError(what, remedy=f"Its features are numbered from 0 to {len(counts) - 1:,}.")
            if counts[latent] == 0:
                what = f"Feature {latent} of {self.space.name} fires on no document, so nothing can name it."
                raise SaefariError(what, remedy="Leave it out of --only.")
        wanted = np.array(sorted(set(self.config.only)) or np.flatnonzero(counts), dtype=np.int64)
        order = np.lexsort((wanted, -counts[wanted]))
        return [int(latent) for latent in wanted[order][: self.config.limit]]

    # --- the plan ---------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """What `run` will ask; nothing is asked. Without a language model all is 0."""
        model, predictor = self.model, self._llm_predictor
        sizes = len(self.latents), len(self.families)
        if model is None:
            return Plan(*sizes, 0, 0, 0, 0)
        todo: list[Question] = []
        unnamed: list[_Case] = []
        n_known = 0
        for case, question in itertools.chain(self._asked(), self._asked_of_families(self.space.labels)):
            # A family is asked about with the labels of features, which may become others.
            is_certain = question.prompt is not FAMILY or not todo
            answer = model.find(question) if is_certain else None
            if answer is None:
                todo.append(question)
                unnamed.append(case)
                continue
            n_known += 1
            if predictor is not None:
                asked = _predictions(_named(case, answer, model.source), predictor, model)
                left = [each for each in asked if model.find(each) is None]
                n_known += len(asked) - len(left)
                todo += left
        numbers = np.array(estimate(todo))
        if predictor is not None and unnamed:
            numbers += _guess(unnamed, predictor)
        n_calls, tokens_in, tokens_out = numbers.tolist()
        return Plan(*sizes, n_calls, n_known, tokens_in, tokens_out)

    # --- the run ----------------------------------------------------------------------------------

    def run(self, rewrite_catalogue: Rewrite) -> Outcome:
        """Make the labels and publish them; SaefariError, and nothing is published, if there is none.

        `rewrite_catalogue` makes, from the folders of the old and of the new generation, the tables that
        the app lists.
        """
        with artifact.locked(self.collection), explain_write_errors(self.collection):
            if artifact.current(self.collection) != self.explorer.path:
                what = f"{self.explorer.name} was rebuilt in the meantime."
                raise SaefariError(what, remedy="Give the same command again.")
            outcome = Outcome(self.explorer.path, len(self.latents), len(self.families))
            labels, of_families = self._make()
            self._take_stock(outcome, labels, of_families)
            if not labels:
                what = " ".join(["No label was made, and none is lost.", *outcome.problems])
                raise SaefariError(what, remedy="What was answered is kept for the next time.")
            self._publish(labels, of_families, rewrite_catalogue)
            outcome.folder = artifact.current(self.collection)
            return outcome

    def _make(self) -> tuple[dict[int, Label], dict[int, Label]]:
        """The new labels, of features and then, with their help, of families."""
        judges = self._predictors()
        if self.model is None:
            with self.console.stage("Labels") as report:
                return self._make_phrases(judges, report)
        n_calls = self.plan.n_calls
        with self.console.stage(f"Asking {tidy(self.model.endpoint.model)}") as report:
            # What was planned is in part an estimate.
            self.model.progress = lambda done, detail: report(done, max(done, n_calls), detail)
            labels = self._judge(self._named_cases(self._asked()), judges, self._staying)
            if not labels:
                return {}, {}
            asked = self._asked_of_families(self._merged(labels))
            return labels, self._judge(self._named_cases(asked), judges, self._staying_of_families)

    def _make_phrases(self, judges: _Judges, report: Report) -> tuple[dict[int, Label], dict[int, Label]]:
        labeller = Labeller(
            self._documents, self.space.codes, self.space.features, self.space.sae,
            self.explorer.index.vectors(), self._embedder, self._seed, report,
        )  # fmt: skip
        fresh = labeller.features()
        cases = [
            self._phrase_case(latent, self._split(latent), self.space.labels[latent], fresh[latent])
            for latent in self.latents
        ]
        labels = self._judge(cases, judges, self._staying)
        members = [family.members for family in self.families]
        found = label_families(labeller, members, self._merged(labels))
        of_families = [
            self._phrase_case(family.id, self._split_of(family), family.label or UNLABELLED, new)
            for family, new in zip(self.families, found, strict=True)
        ]
        return labels, self._judge(of_families, judges, self._staying_of_families)

    @property
    def _staying(self) -> list[Label]:
        """Labels of features that are not made again."""
        made = set(self.latents)
        return [label for latent, label in enumerate(self.space.labels) if label.text and latent not in made]

    @property
    def _staying_of_families(self) -> list[Label | None]:
        made = {family.id for family in self.families}
        return [family.label for family in self.space.families if family.id not in made]

    def _merged(self, labels: Mapping[int, Label]) -> list[Label]:
        """The labels of all features: the new ones, and those that stay."""
        return [labels.get(latent, old) for latent, old in enumerate(self.space.labels)]

    def _named_cases(self, asked: Iterable[tuple[_Case, Question]]) -> list[_Case]:
        """Those for which the model has names."""
        model = self.model
        if model is None:
            return []
        pairs = list(asked)
        answers = model.ask([question for _, question in pairs])
        return [
            _named(case, answer, model.source)
            for (case, _), answer in zip(pairs, answers, strict=True)
            if answer is not None
        ]

    def _asked(self) -> Iterator[tuple[_Case, Question]]:
        """Each feature with the question for its name; its evidence has no answer yet."""
        for latent in self.latents:
            split = self._split(latent)
            documents, values = self.space.codes.of_latent(latent)
            strength = dict(zip(documents.tolist(), (10 * values / values[0]).tolist(), strict=True))
            strengths = np.array([strength[position] for position in split.mined.positives.tolist()])
            question, shown, silent = interpreter_question(split.mined, strengths, self._read)
            evidence = {"": Evidence(shown, silent, INTERPRETER.version)}
            yield _Case(latent, split, self.space.labels[latent], evidence=evidence), question

    def _asked_of_families(self, labels: Sequence[Label]) -> Iterator[tuple[_Case, Question]]:
        """Each family with the question for its name, which shows those of its features."""
        for family in self.families:
            parent, *children = (labels[member].text for member in family.members)
            question = family_question(parent or UNNAMED, [child for child in children if child])
            # Made from names alone: no documents were shown.
            case = _Case(family.id, self._split_of(family), family.label or UNLABELLED)
            yield replace(case, evidence={"": Evidence([], [], FAMILY.version)}), question

    @property
    def _seed(self) -> int:
        return int(self.space.config["seed"])

    def _split(self, latent: int) -> Split:
        return split_documents(self.space.codes, self.space.features, latent, self._seed)

    def _split_of(self, family: Family) -> Split:
        return split_family(self.space.codes, self.space.features, family.members, self._seed)

    def _phrase_case(self, number: int, split: Split, old: Label, new: Label) -> _Case:
        """A label made again; names that a language model gave before compete with it."""
        names = [each for each in old.candidates if each.source.startswith(LLM_SOURCE)][:N_ENTERED]
        phrases = [each for each in new.candidates if each.chosen_by is not None] or new.candidates[:1]
        phrases = phrases if new.source != "none" else []
        # Where there are too few documents to choose by, the first candidate is taken: what leads now.
        both = [*names, *phrases] if old.source.startswith(LLM_SOURCE) else [*phrases, *names]
        evidence = {new.source: new.evidence} if new.evidence else {}
        case = _Case(number, split, old, evidence=evidence)
        is_settled = not both or not (names or self.config.predictor)
        return replace(case, settled=new) if is_settled else _enter(case, both, new.candidates)

    def _judge(
        self, cases: Iterable[_Case], judges: _Judges, stay: Iterable[Label | None]
    ) -> dict[int, Label]:
        """The label of each by the tournament; none where an answer of the judge is missing.

        Where two would be called the same, the one that the name fits better keeps it, and the other takes
        the next best of its candidates, if it has one. Labels that `stay` keep their names.
        """
        case_of = {case.id: case for case in cases}
        settled = {number: case.settled for number, case in case_of.items() if case.settled is not None}
        taken = {label.text.casefold() for label in (*stay, *settled.values()) if label is not None}
        found: dict[int, Label] = {}
        open_ = [case for case in case_of.values() if case.settled is None]
        for _ in range(ROUNDS):
            found |= self._hold(open_, judges)
            losers = [(case_of[number], found[number].text) for number in _clashes(found, taken)]
            open_ = [_without(case, text) for case, text in losers if case.n_entered > 1]
            case_of |= {case.id: case for case in open_}
        return {number: _succeed(case_of[number], label) for number, label in (settled | found).items()}

    def _hold(self, cases: Sequence[_Case], judges: _Judges) -> dict[int, Label]:
        found: dict[int, Label] = {}
        for start in range(0, len(cases), FEATURES_PER_BLOCK):
            block = cases[start : start + FEATURES_PER_BLOCK]
            candidates, splits = [case.candidates for case in block], [case.split for case in block]
            held = hold_tournament(candidates, splits, *judges, entered=[case.n_entered for case in block])
            pairs = zip(block, held, strict=True)
            found |= {case.id: label for case, label in pairs if self._is_judged(case.split)}
        return found

    def _is_judged(self, split: Split) -> bool:
        predictor = self._llm_predictor
        if predictor is None:
            return True
        samples = (split.mined, split.choosing, split.heldout)
        return all(predictor.has_answered(sample.documents) for sample in samples)

    def _take_stock(
        self, outcome: Outcome, labels: Mapping[int, Label], of_families: Mapping[int, Label]
    ) -> None:
        before = {family.id: family.label or UNLABELLED for family in self.families}
        pairs = [(label, self.space.labels[latent]) for latent, label in labels.items()]
        pairs += [(label, before[root]) for root, label in of_families.items()]
        outcome.n_failed = len(self.latents) + len(self.families) - len(pairs)
        outcome.sources.update(label.source for label, _ in pairs)
        outcome.n_changed = sum(label.text != old.text for label, old in pairs)
        if self.model is None:
            return
        outcome.n_asked = self.model.n_asked
        outcome.tokens_in, outcome.tokens_out = self.model.tokens_in, self.model.tokens_out
        kinds = Counter(str(error) for error in self.model.failures)
        outcome.problems = [f"{said} ({n:,} times)" if n > 1 else said for said, n in kinds.most_common(3)]
        if self.model.problem is not None:
            outcome.problems.insert(0, str(self.model.problem))

    def _publish(
        self, labels: Mapping[int, Label], of_families: Mapping[int, Label], rewrite_catalogue: Rewrite
    ) -> None:
        merged, forest = self._merged(labels), self.space.forest
        families = [
            replace(family, label=of_families.get(family.id, family.label)) for family in forest.families
        ]
        metrics = {**self.space.metrics, "n_labelled": sum(label.source != "none" for label in merged)}
        forest = replace(forest, families=families)
        embedder = self._embedder
        vectors_ND = None if embedder is None else embed_labels(merged, embedder)
        changed = replace(
            self.space, labels=merged, forest=forest, metrics=metrics, label_vectors_ND=vectors_ND
        )
        spaces = [changed if space.name == changed.name else space for space in self.explorer.saes.values()]
        with (
            self.console.stage("Writing") as report,
            artifact.revise(self.collection) as (folder, manifest),
        ):
            changed.save_labels(folder / "saes" / changed.name)
            rewrite_catalogue(self.explorer.path, folder, spaces)
            manifest["saes"] = [space.describe() for space in spaces]
            write_atomic(folder / "report.md", report_text(manifest, spaces).encode())
            report(1, 1)

    # --- judges -----------------------------------------------------------------------------------

    def _predictors(self) -> _Judges:
        """The judge, and the others whose scores stand beside its own."""
        with self.console.stage("Reading documents"):
            offline: dict[str, Predictor] = {"bm25": WordPredictor(tokenise(self._documents))}
            if self._embedder is not None:
                offline["embedding"] = MeaningPredictor(self._embedder, self.explorer.index.vectors())
        judge = self._llm_predictor or offline.pop(self.predictor)
        return judge, [*offline.values()]

    @cached_property
    def _llm_predictor(self) -> LLMPredictor | None:
        if self.model is None or self.predictor != "llm":
            return None
        return LLMPredictor(self.model, self._read)

    @cached_property
    def _embedder(self) -> Embedder | None:
        """The encoder of the collection, if it is needed and is still the same one."""
        spec = self.explorer.embedder_spec
        if spec is None:
            return None
        remedy = "Choose --predictor bm25, or build the collection again."
        embedder = load_again(self.explorer.manifest["embedder"], remedy, endpoint=self._encoder_endpoint)
        return KeptEmbedder(embedder, self._cache / "labels") if is_remote(spec) else embedder

    @cached_property
    def _documents(self) -> list[Document]:
        return self._read(range(self.explorer.n_documents))


def _named(case: _Case, answer: Answer, source: str) -> _Case:
    """With the model's names first; what the feature had competes behind them."""
    names = [Candidate(text, source) for text in answer.value.labels]
    evidence = replace(case.evidence[""], reasoning=answer.value.reasoning, made=answer.made)
    # Of the others only what has named the feature: a phrase that has not may be another feature's name.
    before = {case.old.text, *(former.text for former in case.old.history)}
    entered = [*names, *(each for each in case.old.candidates if each.text in before)]
    return _enter(replace(case, evidence={source: evidence}), entered[:N_ENTERED], case.old.candidates)


def _predictions(case: _Case, predictor: LLMPredictor, model: LanguageModel) -> list[Question]:
    """What the predictor is asked about a case that has its candidates."""
    texts = [candidate.text for candidate in case.candidates[: case.n_entered]]
    choosing = [question for text in texts for question in _choosing(case, text, predictor)]
    # One candidate will be scored: if the cache knows the scores of one, that one.
    scoring = [_scoring(case, text, predictor) for text in texts]
    return choosing + min(scoring, key=lambda some: sum(model.find(each) is None for each in some))


def _guess(cases: Sequence[_Case], predictor: LLMPredictor) -> NDArray[np.int64]:
    """Calls, tokens in and out of the predictor for cases without candidates, from a sample of them."""
    places = np.unique(np.linspace(0, len(cases) - 1, min(N_SAMPLED, len(cases))).round().astype(int))
    asked: list[Question] = []
    for place in places:
        case = cases[place]
        text = case.old.text or STAND_IN
        asked += [*_choosing(case, text, predictor) * N_ENTERED, *_scoring(case, text, predictor)]
    return np.array([round(len(cases) / len(places) * number) for number in estimate(asked)])


def _choosing(case: _Case, text: str, predictor: LLMPredictor) -> list[Question]:
    """What is asked to choose between candidates; nothing where there are no documents for it."""
    if not _has_choice(case):
        return []
    return [question for question, _ in predictor.questions(text, case.split.choosing.documents)]


def _scoring(case: _Case, text: str, predictor: LLMPredictor) -> list[Question]:
    """What is asked once a label is chosen, besides what chose it."""
    samples = [case.split.heldout] if _has_choice(case) else [case.split.mined, case.split.heldout]
    return [question for each in samples for question, _ in predictor.questions(text, each.documents)]


def _has_choice(case: _Case) -> bool:
    return min(len(case.split.choosing.positives), len(case.split.choosing.negatives)) >= MIN_SCORED


def _enter(case: _Case, entered: Sequence[Candidate], others: Sequence[Candidate]) -> _Case:
    """With these candidates in the tournament and the others behind them, none of them twice."""
    kept: dict[str, Candidate] = {}
    for candidate in (*entered, *others):
        kept.setdefault(candidate.text.casefold(), replace(candidate, chosen_by=None))
    n_entered = len({candidate.text.casefold() for candidate in entered})
    return replace(case, candidates=list(kept.values())[:N_KEPT], n_entered=n_entered)


def _clashes(labels: Mapping[int, Label], taken: AbstractSet[str]) -> list[int]:
    """Those whose name another one has that it fits better, by the AUC that chose it."""
    by_fit = sorted(labels, key=lambda number: (-(labels[number].candidates[0].chosen_by or 0), number))
    seen = set(taken)
    losers = []
    for number in by_fit:
        text = labels[number].text.casefold()
        if text in seen:
            losers.append(number)
        seen.add(text)
    return losers


def _without(case: _Case, text: str) -> _Case:
    """With one candidate less in the tournament."""
    entered, others = case.candidates[: case.n_entered], case.candidates[case.n_entered :]
    left = [candidate for candidate in entered if candidate.text != text]
    out = [candidate for candidate in entered if candidate.text == text]
    return replace(case, candidates=[*left, *out, *others], n_entered=len(left))


def _succeed(case: _Case, label: Label) -> Label:
    """The new label with its evidence and with the old one in its history."""
    old = case.old
    is_same = (label.text, label.source) == (old.text, old.source)
    evidence = case.evidence.get(label.source) or (old.evidence if is_same else None)
    if evidence is None and label.source != "none":
        mined, made = case.split.mined, datetime.now(UTC).date().isoformat()
        evidence = Evidence(mined.positives.tolist(), mined.near.tolist(), made=made)
    history = old.history
    if not is_same and old.source != "none":
        auc = old.score.auc.value if old.score else None
        history = [Former(old.text, old.source, auc, old.evidence.made if old.evidence else ""), *history]
    return replace(label, evidence=evidence, history=history[:N_FORMER])
