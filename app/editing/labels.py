"""What people call features and families: on their pages, and stored from there."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request

from app import urls
from app.authored import labels
from app.authored.labels import HumanLabel, LabelText
from app.authored.store import Writing
from app.editing.acts import CHOICE, LINE, TEXT, Act, Field, add_act
from app.editing.forms import Form
from app.editing.subjects import page_of, subject_of
from app.views.editing import RevisionView, Spoken

router = APIRouter()

VERDICTS = (("", "no verdict"), ("accepted", "accepted"), ("rejected", "rejected"))
NOTHING = RevisionView(0, "", "", "", "", "", "")


def spoken(history: list[HumanLabel], automatic: str) -> Spoken:
    """What people say of a feature or family, whose label by a build is `automatic`."""
    revisions = [_revision(each) for each in history]
    return Spoken(
        shown=history[0].shown(automatic) if history else automatic,
        automatic=automatic,
        latest=revisions[0] if revisions else NOTHING,
        history=revisions,
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
add_act(router, LABEL)
