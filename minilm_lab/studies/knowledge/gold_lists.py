"""Lists of right answers, and whether a text is one of them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minilm_lab.errors import LabError, nearest

EMBEDDED = Path(__file__).parent / "gold"
_ARTICLE = re.compile(r"^(?:the|a|an)\s+")


@dataclass(frozen=True)
class GoldList:
    """What is asked for, and all that is right."""

    name: str
    asks: str
    """In the plural, after "Please name some"."""
    answers: tuple[tuple[str, ...], ...]
    """Each with its aliases."""
    _known: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for number, names in enumerate(self.answers):
            for name in names:
                self._known.setdefault(normal(name), number)
        for number, names in enumerate(self.answers):  # a plural never hides an answer that is written so
            for name in names:
                for form in singulars(normal(name)) if name.islower() else ():  # Paris is no plural
                    self._known.setdefault(form, number)

    def judge(self, text: str) -> int | None:
        """The number of the answer that `text` is, whatever its case, accents, article and number; None: wrong.

        All of `text` counts: that a right answer begins alike makes nothing right.
        """
        name = normal(text)
        for form in (name, *singulars(name)):
            if form in self._known:
                return self._known[form]
        return None


def normal(text: str) -> str:
    """`text` in small letters without accents, article, hyphens, and what is around it that is no letter or digit."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("ß", "ss"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"[-–—_\s]+", " ", re.sub(r"[’'`.]", "", plain))
    return _ARTICLE.sub("", re.sub(r"^\W+|\W+$", "", plain))


def singulars(name: str) -> list[str]:
    """What a normal name may be the plural of."""
    forms = []
    if name.endswith("ies") and len(name) > 4:
        forms.append(f"{name[:-3]}y")
    if name.endswith("ves") and len(name) > 4:
        forms += [f"{name[:-3]}f", f"{name[:-3]}fe"]
    if name.endswith("es") and len(name) > 4:
        forms.append(name[:-2])
    if name.endswith("s") and not name.endswith("ss") and len(name) > 3:
        forms.append(name[:-1])
    return forms


def read_lists(where: str, names: Sequence[str] | None = None) -> list[GoldList]:
    """The lists of a folder, `embedded` = those of the lab, all or those of these names; LabError says what is wrong.

    A file `<name>.txt` begins with `# asks: <what, in the plural>`; then an answer a line, its aliases behind `|`.
    """
    folder = EMBEDDED if where == "embedded" else Path(where).expanduser()
    files = {file.stem: file for file in sorted(folder.glob("*.txt"))} if folder.is_dir() else {}
    if not files:
        raise LabError(
            f"evaluator.prompts={where}: there is no folder with lists (*.txt) there; write `embedded`, or a folder of "
            "files that begin with `# asks: countries in Europe` and have an answer a line."
        )
    if unknown := [name for name in names or () if name not in files]:
        raise LabError(
            f"evaluator.lists: there is no list '{unknown[0]}' in {where}.{nearest(unknown[0], files)} "
            f"There are: {', '.join(files)}"
        )
    return [_read(name, files[name]) for name in (names or files)]


def _read(name: str, file: Path) -> GoldList:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file} cannot be read as UTF-8 text ({error})") from error
    said = dict(line[1:].partition(":")[::2] for line in lines if line.startswith("#"))
    asks = {key.strip(): value.strip() for key, value in said.items()}.get("asks", "")
    answers = tuple(
        tuple(part.strip() for part in line.split("|") if part.strip()) for line in lines if line[0] != "#"
    )
    if not asks:
        raise LabError(f"{file} does not say what it lists: begin it with `# asks: countries in Europe`.")
    if not answers or not all(answers):
        raise LabError(f"{file} has no answers: write each on a line of its own below `# asks: …`.")
    return GoldList(name, asks, answers)


def checksum(lists: Iterable[GoldList]) -> str:
    """Of what is asked and what is right."""
    content = hashlib.sha256()
    for gold in lists:
        content.update(repr((gold.name, gold.asks, gold.answers)).encode())
    return content.hexdigest()[:32]
