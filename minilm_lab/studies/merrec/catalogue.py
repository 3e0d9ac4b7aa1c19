"""Items of the generated marketplace: how often each is looked at, in which categories, and what its title says.

Only a category, a theme and a weight are held for each item; everything else is a hash of (seed, item), so that a catalogue of
tens of millions fits in memory and shards can be written by processes that share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minilm_lab.data.splitmix import GAMMA, mixed
from minilm_lab.studies.merrec import published, taxonomy
from minilm_lab.studies.merrec.quantiles import Quantiles

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
PRICE = Quantiles(((0, 1), (0.05, 5), (0.5, 25), (0.95, 225), (0.99, 636), (0.9999, 3000), (1, 5000)))
WEIGHT, FADED, FAINT = 1.25, 0.83, 0.04
"""Standard deviation of the log of an item's weight; share of items that weigh `FAINT` of it: with `LISTED` they give the
published events an item."""
LISTED = 0.6
"""Items on offer for each event; those that nobody looks at are in no file."""
FIRST_ITEM, ITEMS_PER_CLUSTER = 10_000_001, 1000


@dataclass(frozen=True)
class Catalogue:
    """Items in order of their cluster (c1 × theme), the unit of a taste."""

    seed: int
    c1_of_cluster: Ints
    theme_of_cluster: Ints
    c0_of_c1: Ints
    kinds: int
    """c2 of each c1."""
    starts: Ints
    """(clusters + 1,) first item of each."""
    cumulated: Floats
    """(items + 1,) cumulated weights, the last 1."""

    @property
    def items(self) -> int:
        """How many are on offer."""
        return len(self.cumulated) - 1

    def cluster(self, items: Ints) -> Ints:
        """The cluster of each."""
        return np.asarray(np.searchsorted(self.starts, items, side="right") - 1, dtype=np.int64)

    def drawn(self, uniform: Floats, clusters: Ints | None = None) -> Ints:
        """An item for each uniform number, by weight, of all or of a cluster for each."""
        if clusters is not None:
            low, high = self.cumulated[self.starts[clusters]], self.cumulated[self.starts[clusters + 1]]
            uniform = low + uniform * (high - low)
        at = np.searchsorted(self.cumulated, uniform, side="right") - 1
        return np.asarray(np.clip(at, 0, self.items - 1), dtype=np.int64)

    def uniform(self, items: Ints, what: str) -> Floats:
        """(items,) a number in [0, 1) for each, by its hash and the name of what it is for."""
        return hashed(items, self.seed, what)


def hashed(values: Ints, seed: int, what: str) -> Floats:
    """A number in [0, 1) for each value, a function of (value, seed, what)."""
    salt = np.uint64(int.from_bytes(what.encode()[:8].ljust(8, b"\0"), "little") ^ (seed * 0x9E3779B1))
    words = mixed(mixed(values.astype(np.uint64) + salt) + GAMMA)
    return (words >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def catalogue(events: int, seed: int) -> Catalogue:
    """For about `events` events. Small catalogues have fewer categories, so that a taste has items to choose from."""
    draw = np.random.default_rng([seed, 1])
    items = max(200, int(LISTED * events))
    clusters = max(1, items // ITEMS_PER_CLUSTER)
    themes = int(np.clip(clusters // len(taxonomy.C0), 3, len(taxonomy.THEMES)))
    c1 = int(np.clip(clusters // themes, len(taxonomy.C0), published.WHOLE["c1"]))
    share = np.asarray(list(taxonomy.C0.values()), dtype=np.float64)
    # Every c0 has a c1, the large ones several.
    many = 1 + np.floor((c1 - len(share)) * share / share.sum()).astype(np.int64)
    c0_of_c1 = np.repeat(np.arange(len(share)), many)
    c1_of_cluster = np.repeat(np.arange(len(c0_of_c1)), themes)
    theme_of_cluster = np.tile(np.arange(themes), len(c0_of_c1))
    of_cluster = np.repeat(share / share.sum() / (many * themes), many * themes)
    sizes = np.maximum(3, np.round(of_cluster * items)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    weights = np.exp(WEIGHT * draw.normal(size=int(starts[-1])))
    weights[draw.random(len(weights)) < FADED] *= FAINT
    # A cluster is as popular as its share, whatever its heaviest items weigh.
    sums = np.add.reduceat(weights, starts[:-1])
    weights *= np.repeat(of_cluster / sums, sizes)
    cumulated = np.concatenate([[0.0], np.cumsum(weights)])
    kinds = max(1, min(len(taxonomy.KINDS), published.WHOLE["c2"] // max(1, c1), items // (60 * c1)))
    return Catalogue(
        seed, c1_of_cluster, theme_of_cluster, c0_of_c1, kinds, starts, cumulated / cumulated[-1]
    )


def columns(stock: Catalogue, items: Ints) -> dict[str, pa.Array]:
    """The item's part of the schema for distinct items, in their order; and ``price``."""
    cluster = stock.cluster(items)
    c1, theme = stock.c1_of_cluster[cluster], stock.theme_of_cluster[cluster]
    c0 = stock.c0_of_c1[c1]
    kind = (stock.uniform(items, "kind") * stock.kinds).astype(np.int64)
    no_c2 = stock.uniform(items, "c2") < 0.01
    c2 = c1 * len(taxonomy.KINDS) + kind
    # A c1 has brands of its own; low numbers are frequent.
    branded = stock.uniform(items, "branded") >= 0.192
    rank = np.floor(np.exp(stock.uniform(items, "brand") * np.log(64))).astype(np.int64)
    brand = np.where(branded, 1 + (c1 * 64 + rank) % (published.WHOLE["brands"] - 1), 0)
    word = (stock.uniform(items, "word") * 4).astype(np.int64)
    sized_share = sum(taxonomy.C0[name] for name in taxonomy.SIZED) / sum(taxonomy.C0.values())
    sized = np.isin(c0, [list(taxonomy.C0).index(name) for name in taxonomy.SIZED])
    sized &= stock.uniform(items, "sized") < (1 - 0.6274) / sized_share
    size = (stock.uniform(items, "size") * len(taxonomy.SIZES)).astype(np.int64)
    colored = stock.uniform(items, "colored") >= 0.9561
    color = (stock.uniform(items, "color") * len(taxonomy.COLORS)).astype(np.int64)
    condition = np.searchsorted([0.25, 0.6, 0.9, 0.98], stock.uniform(items, "state"), side="right")
    shipper = (stock.uniform(items, "shipper") < 0.6).astype(np.int64)
    extra = (stock.uniform(items, "extra") * len(taxonomy.EXTRAS)).astype(np.int64)
    goods = np.asarray(_goods(stock))
    brands = pa.array([taxonomy.brand(number) for number in range(published.WHOLE["brands"])])
    brand_name = pc.if_else(pa.array(branded), brands.take(pa.array(brand)), None)
    words = [
        pc.fill_null(brand_name, ""),
        _named([word for theme in taxonomy.THEMES for word in theme], theme * 4 + word),
        _named(taxonomy.KINDS, kind),
        _named(goods.tolist(), c1),
        pc.if_else(pa.array(sized), _named([f"size {name}" for name in taxonomy.SIZES], size), ""),
        _named(taxonomy.COLORS, color),
        _named(taxonomy.EXTRAS, extra),
    ]
    title = pc.utf8_trim_whitespace(
        pc.replace_substring_regex(pc.binary_join_element_wise(*words, " "), " +", " ")
    )
    id_of = np.where(no_c2, c1, c2).astype(str)
    product = pc.binary_join_element_wise(pa.array(brand.astype(str)), pa.array(id_of), "_")
    price = np.round(PRICE(stock.uniform(items, "price")))
    return {
        "item_id": pa.array(FIRST_ITEM + items),
        "product_id": product,
        "name": title,
        "price": pa.array(price),
        "c0_name": _named(list(taxonomy.C0), c0),
        "c0_id": pa.array(c0),
        "c1_name": _named(goods.tolist(), c1),
        "c1_id": pa.array(c1),
        "c2_name": pc.if_else(pa.array(no_c2), None, pc.binary_join_element_wise(words[2], words[3], " ")),
        "c2_id": pa.array(c2, mask=no_c2),
        "brand_name": brand_name,
        "brand_id": pa.array(brand),
        "item_condition_id": pa.array(condition + 1),
        "item_condition_name": _named(taxonomy.CONDITIONS, condition),
        "size_name": pc.if_else(pa.array(sized), _named(taxonomy.SIZES, size), None),
        "size_id": pa.array(size, mask=~sized),
        "color": pc.if_else(pa.array(colored), words[5], None),
        "shipper_id": pa.array(shipper + 1),
        "shipper_name": _named(taxonomy.SHIPPERS, shipper),
    }


def _goods(stock: Catalogue) -> list[str]:
    """Name of each c1; what the list of goods lacks is a numbered line of one."""
    names = taxonomy.GOODS
    many = len(names)
    return [
        names[n % many] + ("" if n < many else f" line {n // many + 1}") for n in range(len(stock.c0_of_c1))
    ]


def _named(names: tuple[str, ...] | list[str], codes: Ints) -> pa.Array:
    return pa.array(list(names)).take(pa.array(codes))
