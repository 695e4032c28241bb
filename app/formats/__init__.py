"""Lists as files, and which format a request wants.

A route that has lists hands `Files` to `app.deps.add_page`: what they are, and a function that makes one. It
sees nothing of formats; a format sees nothing of routes.
"""

from app.formats import kinds
from app.formats.lists import (
    BATCH,
    Column,
    DocumentRow,
    Documents,
    Kind,
    Row,
    Table,
    batched,
    boolean,
    integer,
    next_page,
    number,
    text,
    texts,
)
from app.formats.negotiation import HTML, JSON, page_format
from app.formats.registry import FORMATS, Format
from app.formats.serving import (
    FILES,
    Files,
    NotAcceptable,
    NothingToList,
    add_next,
    answer,
    convertor,
    in_format,
    twins,
)

__all__ = [
    "BATCH",
    "FILES",
    "FORMATS",
    "HTML",
    "JSON",
    "Column",
    "DocumentRow",
    "Documents",
    "Files",
    "Format",
    "Kind",
    "NotAcceptable",
    "NothingToList",
    "Row",
    "Table",
    "add_next",
    "answer",
    "batched",
    "boolean",
    "convertor",
    "in_format",
    "integer",
    "kinds",
    "next_page",
    "number",
    "page_format",
    "text",
    "texts",
    "twins",
]
