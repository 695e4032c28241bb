"""What people call features and families: on their pages, and stored from there."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request

from app import urls
from app.authored import labels
from app.authored.labels import HumanLabel, LabelText, Tally
from app.authored.store import Writing
from app.authored.texts import BadText
from app.editing.acts import CHOICE, LINE, TEXT, Act, Field, add_act
from app.editing.forms import Form
from app.editing.subjects import page_of, subject_of
from app.views.editing import RevisionView, Spoken

router = APIRouter()

VERDICTS = (("", "no verdict"), ("accepted", "accepted"), ("rejected", "rejected"))
NOTHING = RevisionView(0, "", "", "", "", "", "")


def shown_label(history: list[HumanLabel], automatic: str) -> str:
    """The label that holds; "" for one that was rejected."""
    return history[0].said.shown(automatic) if history else automatic


def spoken(history: list[HumanLabel], automatic: str, votes: Tally) -> Spoken:
    """What people say of a feature or family, whose label by a build is `automatic`."""
    revisions = [_revision(each) for each in history]
    return Spoken(
        shown=shown_label(history, automatic),
        automatic=automatic,
        latest=revisions[0] if revisions else NOTHING,
        history=revisions,
        up=votes.up,
        down=votes.down,
        own=votes.own,
    )


def _revision(label: HumanLabel) -> RevisionView:
    said = label.said
    return RevisionView(
        label.revision, said.text, said.explanation, said.verdict, said.automatic, label.author,
        label.at.isoformat(timespec="minutes"),
    )  # fmt: skip


def _store(request: Request, writing: Writing, form: Form) -> str:
    said = LabelText(form["text"], form["explanation"], form["verdict"], form["automatic"])
    labels.set_label(writing, subject_of(request, form), said, form.number("expected"))
    return f"{page_of(form)}#people"


def _theirs(found: HumanLabel | None) -> Mapping[str, str]:
    said, revision = (found.said, found.revision) if found else (LabelText(), 0)
    return {
        "text": said.text, "explanation": said.explanation, "verdict": said.verdict, "expected": str(revision)
    }  # fmt: skip


LABEL = Act(
    path=urls.edit("label"),
    button="Store",
    fields=(
        Field("text", "Label", LINE),
        Field("explanation", "Explanation", TEXT),
        Field("verdict", "The automatic label is", CHOICE, VERDICTS),
    ),
    do=_store,
    theirs=_theirs,
)
VALUES = {"right": 1, "wrong": -1, "neither": 0}


def _vote(request: Request, writing: Writing, form: Form) -> str:
    if form["value"] not in VALUES:
        raise BadText("This is no vote.", remedy=f"Choose {', '.join(VALUES)}.")
    labels.vote(writing, subject_of(request, form), form["text"], VALUES[form["value"]])
    return f"{page_of(form)}#people"


VOTE = Act(path=urls.edit("vote"), button="Vote", fields=(), do=_vote)
add_act(router, LABEL)
add_act(router, VOTE)
