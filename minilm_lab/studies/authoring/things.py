"""Products and reviews as records of every form that their features allow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from minilm_lab.studies.authoring import spec
from minilm_lab.studies.authoring.records import Record, number

LONGEST = 60
"""Words of a review that is asked for."""


@dataclass(frozen=True)
class Thing:
    """A product or a review with its features."""

    id: str
    kind: str
    """product or review."""
    features: Mapping[str, str]
    source: str
    licence: str
    rewritten: str | None = None
    """Another shop's title of the same product."""


def records_of(
    thing: Thing, labels: Mapping[str, Sequence[str]], interleave: bool = True, unanswered: bool = False
) -> Iterator[Record]:
    """The records of a thing; labels: asked feature -> the answers that there are.

    unanswered: also those whose answer nobody wrote, or wrote otherwise than the labels, with output "".
    """
    for form in spec.FORMS:
        if form.kind == thing.kind:
            record = _record(thing, form if interleave else spec.alone(form), labels, unanswered)
            if record is not None:
                yield record


def _record(
    thing: Thing, form: spec.Form, labels: Mapping[str, Sequence[str]], unanswered: bool
) -> Record | None:
    values = {key: text for key, text in thing.features.items() if text}
    given = [key for key in form.given if key in values]
    if form.asked == "title" and thing.rewritten is not None:
        # One shop's title for another's: the input is a title, and so is the answer.
        output, given = (
            thing.rewritten,
            ["title", *(key for key in given if key not in ("features", "title"))],
        )
    elif form.asked == "title":
        output = values.get("title", "")
    else:
        output = values.get(form.asked, "")
    if form.task == "qa" and form.asked not in ("query", "headline"):
        if form.asked not in values:
            return None  # nobody wrote it down, and a title may still say it: "not stated" could be wrong
        # Half of the questions are on what is not given, so that "not stated" is learned.
        others = " ".join(values[key] for key in given if key != form.asked).casefold()
        if number(f"{thing.id}{form.asked}") % 2 and values[form.asked].casefold() not in others:
            given = [key for key in given if key != form.asked]
            output = spec.NOT_STATED
        elif form.asked not in given:
            given.append(form.asked)
        if form.asked == "features" and output != spec.NOT_STATED:
            output = first_feature(output)
    if form.asked in labels:
        if output not in labels[form.asked]:
            if not unanswered:
                return None
            output = ""
    elif form.asked not in spec.MADE and not output:
        return None
    if form.asked == "review" and len(output.split()) > LONGEST:
        return None
    if not given or (form.task == "rewriting" and "query" not in values):
        return None
    objects: dict[str, dict[str, str]] = {whose: {} for whose in ("customer", "seller", "platform")}
    for key in given:
        objects[spec.FEATURES[key].whose][key] = values[key]
    return Record(
        task=form.task,
        id=f"{thing.id}/{form.asked}",
        object=objects,
        given=given,
        asked=form.asked,
        output=output if form.asked not in spec.MADE else "",
        labels=list(labels[form.asked]) if form.asked in labels else None,
        source=thing.source,
        licence=thing.licence,
        made_by="data",
    )


def first_feature(features: str) -> str:
    """The first of features that a semicolon separates."""
    return features.split(";")[0].strip()


_WORD = re.compile(r"[A-Za-z0-9][\w.+-]*")
_EMPTY = frozenset(
    [
        "a",
        "an",
        "and",
        "by",
        "for",
        "from",
        "in",
        "of",
        "on",
        "or",
        "the",
        "to",
        "with",
        "new",
        "pack",
        "count",
        "inch",
    ]
)


def words(text: str) -> list[str]:
    """Words of a text without those that say little, in order, lower case."""
    return [w for w in (w.strip(".-+").lower() for w in _WORD.findall(text)) if w and w not in _EMPTY]


def query_of(title: str, beside: str, count: int = 3) -> str:
    """What somebody might search for: the first `count` words of the title that `beside` lacks.

    A leak that is meant: a query is given in the task too. How much of it an answer holds is scored apart.
    """
    known = set(words(beside))
    new = [word for word in dict.fromkeys(words(title)) if word not in known]
    return " ".join(new[:count])
