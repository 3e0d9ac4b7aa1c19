"""What is given and what is asked: features of customers, sellers and the platform, interleaved between five tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minilm_lab.errors import LabError


@dataclass(frozen=True)
class Feature:
    """What is known of an object."""

    whose: str
    """customer, seller or platform."""
    private: bool = False
    """Whether it is of a person: refused to teachers elsewhere."""


#: In the order in which they are written into an input; what may be long, and is cut there, stands last.
FEATURES = {
    "category": Feature("platform"),
    "brand": Feature("seller"),
    "modelno": Feature("seller"),
    "price": Feature("seller"),
    "rating": Feature("platform"),
    "verdict": Feature("customer", private=True),
    "headline": Feature("customer", private=True),
    "query": Feature("customer", private=True),
    "title": Feature("seller"),
    "features": Feature("seller"),
    "review": Feature("customer", private=True),
}
#: Asked for, and no feature of any object: nothing could give it.
MADE = ("ad",)


@dataclass(frozen=True)
class Form:
    """One way of a task: what an instruction gives and what it asks."""

    task: str
    given: tuple[str, ...]
    asked: str
    kind: str
    """Of the object: product or review."""


FORMS = (
    Form("classification", ("title",), "category", "product"),
    Form("rewriting", ("features", "category", "query", "brand", "modelno"), "title", "product"),
    Form("intent", ("review", "headline", "category"), "verdict", "review"),
    *(
        Form("qa", ("title", "features", "price", "rating", "brand", "modelno"), asked, "product")
        for asked in ("price", "rating", "brand", "modelno", "features")
    ),
    Form("qa", ("title",), "query", "product"),
    Form("qa", ("review", "verdict"), "headline", "review"),
    Form("ads", ("title", "features", "category", "price", "rating"), "ad", "product"),
    Form("ads", ("headline", "category", "verdict"), "review", "review"),
)
TASKS = tuple(dict.fromkeys(form.task for form in FORMS))
HELD_OUT = 5
"""Number of the wording that nothing is trained on."""
#: Six wordings a task, the last one held out. {labels}: the list to choose from; {asked}: a phrase of `PHRASES`.
WORDINGS: dict[str, tuple[str, ...]] = {
    "classification": (
        "Choose the department of this product. Departments: {labels}.",
        "Which of these departments sells the product below? {labels}.",
        "Departments of a shop: {labels}. Name the one where this product belongs.",
        "File the product under one of these headings: {labels}.",
        "A new product came in. It goes to one of: {labels}. Say which.",
        "Out of the list {labels}, pick the right place for the following article.",
    ),
    "rewriting": (
        "Write the title of this product for a customer who searches for the query.",
        "Give the product a title that fits the search.",
        "Compose a product title from what follows; it should hold the words of the query.",
        "How should this product be called in the results of the search?",
        "Turn the description into a product title for the query.",
        "Somebody typed the query. Put a fitting name on the article below.",
    ),
    "intent": (
        "Would this customer recommend the product? Answer yes or no.",
        "Read the review. Does its writer advise others to buy? Say yes or no.",
        "Yes or no: would the customer buy it again?",
        "Is this a customer who recommends what they bought? Answer with yes or no.",
        "From the review, tell whether the customer recommends it: yes or no.",
        "Judge by these words if the buyer would tell a friend to get it, with a yes or a no.",
    ),
    "qa": (
        "Answer the customer's question from what is given: {asked} If it is not there, say: not stated.",
        "A customer asks: {asked} Use the data below alone, or answer: not stated.",
        "{asked} Answer in a few words, or with: not stated.",
        "Look it up in the data: {asked} Where it is missing, write: not stated.",
        "Question of a customer: {asked} Reply from the data only; otherwise: not stated.",
        "Below is all we know. {asked} Should the data be silent, reply: not stated.",
    ),
    "ads": (
        "Write {asked}. Use only what is given.",
        "Compose {asked} from the data below, and invent nothing.",
        "From these facts alone, write {asked}.",
        "The shop needs {asked}. Keep to what is said here.",
        "Draft {asked}; every fact in it must be given below.",
        "Please put {asked} into words without adding facts.",
    ),
}
PHRASES = {
    "price": "What does it cost?",
    "rating": "How is it rated?",
    "brand": "Which brand is it?",
    "modelno": "What is its model number?",
    "features": "What is its first feature?",
    "query": "Which words would somebody search for to find it?",
    "headline": "How would this customer head the review?",
    "ad": "a short advertisement for this product",
    "review": "a short review in a customer's own words",
}
NOT_STATED = "not stated"


def interleaving(forms: Sequence[Form] = FORMS) -> dict[str, tuple[list[str], list[str]]]:
    """Feature -> the tasks that give it and those that ask for it."""
    table: dict[str, tuple[list[str], list[str]]] = {key: ([], []) for key in FEATURES}
    for form in forms:
        for key in form.given:
            if form.task not in table[key][0]:
                table[key][0].append(form.task)
        if form.asked not in MADE and form.task not in table[form.asked][1]:
            table[form.asked][1].append(form.task)
    return table


def check_interleaved(forms: Sequence[Form] = FORMS) -> None:
    """LabError unless every feature is given in a task and asked in another one."""
    for key, (given, asked) in interleaving(forms).items():
        if not any(one != other for one in given for other in asked):
            raise LabError(
                f"{key} is given in {given or 'no task'} and asked in {asked or 'no task'}: instructions that interleave "
                "give every feature in one task and ask for it in another"
            )


def alone(form: Form) -> Form:
    """The form without interleaving: it gives one feature and nothing beside it."""
    return Form(form.task, form.given[:1], form.asked, form.kind)


def lines(forms: Sequence[Form] = FORMS) -> list[str]:
    """The table of features and tasks as text: g where a task gives a feature, a where it asks for it."""
    table, width = interleaving(forms), max(map(len, FEATURES))
    head = f"{'feature':<{width}}  {'of':<8}  " + "  ".join(f"{task:<14}" for task in TASKS)
    rows = [head.rstrip()]
    for key, (given, asked) in table.items():
        cells = [" ".join(w for w, t in (("gives", given), ("asks", asked)) if task in t) for task in TASKS]
        row = f"{key:<{width}}  {FEATURES[key].whose:<8}  " + "  ".join(f"{cell:<14}" for cell in cells)
        rows.append(row.rstrip())
    return rows
