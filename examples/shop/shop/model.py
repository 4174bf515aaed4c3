"""The model: everything that an answer needs, as arrays; made once by the trainer, read by every replica."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from shop.ease import Floats
from shop.features import candidates, features
from shop.history import History, Purchases, clean
from shop.profile import Profile, profile
from shop.ranker import Ranker
from shop.segments import Segments, segment
from shop.session import Act, Session, session
from shop.shelf import Shelf, stock
from shop.training import HORIZON_DAYS, TOP, Catalog, examples, train


@dataclass(frozen=True)
class Pick:
    """One recommended product: its position on the shelf, score, and what each part added to it."""

    product: int
    score: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Judgement:
    """The best products for one household, and what they were judged by."""

    picks: tuple[Pick, ...]
    own: Profile
    session: Session


@dataclass(frozen=True)
class Model:
    """A trained recommender."""

    shelf: Shelf
    rankers: Mapping[str, Ranker]
    history: History
    segments: Segments
    events_until: int
    """Number of the last event that the history holds."""

    def household(self, user_id: int) -> int | None:
        """Position of a household, None for one without a history."""
        position = int(np.searchsorted(self.history.households, user_id))
        found = position < len(self.history.households) and self.history.households[position] == user_id
        return position if found else None

    def product(self, product_id: int) -> int | None:
        """Position of a product on the shelf, None for one that is not there."""
        position = int(np.searchsorted(self.shelf.products, product_id))
        found = position < len(self.shelf.products) and self.shelf.products[position] == product_id
        return position if found else None

    def judge(self, user_id: int, acts: Sequence[Act], *, now: float, k: int, new_only: bool = False) -> Judgement:
        """The `k` products that the household is most likely to buy within four weeks, `acts` being its newest.

        `now` is the day of the shop. With `new_only`, products that it never bought.
        """
        latest = session(self.shelf, acts, now)
        own = self._profile(user_id, latest, int(now))
        judged = candidates(self.shelf, own, top=TOP["new" if new_only else "all"], new_only=new_only)
        touched = np.flatnonzero((latest.interest > 0) & ~(own.seen if new_only else False))
        judged = np.union1d(judged, touched)
        ranker = self.rankers["new" if new_only else "all"]
        values, seen = features(self.shelf, own)[judged], own.seen[judged]
        score = ranker.score(values, seen) + latest.interest[judged]
        best = np.argsort(-score, kind="stable")[:k]
        parts = ranker.parts(values[best], seen[best])
        parts["session"] = latest.interest[judged[best]]
        picks = tuple(
            Pick(int(judged[row]), float(score[row]), {part: float(added[at]) for part, added in parts.items()})
            for at, row in enumerate(best)
        )
        return Judgement(picks, own, latest)

    def similar(self, product: int, k: int) -> list[tuple[int, float]]:
        """The `k` products that a purchase of this one speaks for most, with EASE's weight, those above 0 only."""
        weights = self.shelf.together[product]
        best = np.argsort(-weights, kind="stable")[:k]
        return [(int(index), float(weights[index])) for index in best if weights[index] > 0]

    def _profile(self, user_id: int, latest: Session, today: int) -> Profile:
        household = self.household(user_id)
        product, day = self.history.of(household) if household is not None else (_NONE, _NO_DAY)
        product = np.concatenate([product, latest.bought])
        day = np.concatenate([day, latest.bought_on])
        return profile(self.shelf, product, np.minimum(day, today), today)


_NONE, _NO_DAY = np.zeros(0, np.int32), np.zeros(0, np.int16)


def learn(
    raw: Purchases,
    catalog: Catalog,
    people: Sequence[Mapping[str, object]],
    *,
    today: int,
    events_until: int = 0,
    households: int | None = 800,
    min_households: int = 60,
) -> Model:
    """All steps at once: rankers from the four weeks before `today`, everything else from all days before it."""
    taught = examples(raw, catalog, today=today - HORIZON_DAYS, households=households, min_households=min_households)
    history = clean(raw.between(0, today), min_households=min_households)
    shelf = stock(history, catalog, today=today)
    return Model(shelf, train([taught]), history, segment(history, people, today=today), events_until)


def to_bytes(model: Model) -> bytes:
    """The model as npz: arrays only. EASE's weights go as 16 bits: half the size, and no ranking changes by it."""
    arrays: dict[str, NDArray[np.generic]] = {
        "events_until": np.array(model.events_until),
        **_arrays("shelf", model.shelf),
        **_arrays("history", model.history),
        **_arrays("segments", model.segments),
    }
    for question, ranker in model.rankers.items():
        arrays |= _arrays(f"ranker-{question}", ranker)
    arrays["shelf.together"] = model.shelf.together.astype(np.float16)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(content: bytes) -> Model:
    """Read what `to_bytes` wrote. Raises ValueError for anything else; never runs code that is in it."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    together: Floats = arrays["shelf.together"].astype(np.float32)
    own = {name: value for name, value in _group(arrays, "shelf").items() if name not in ("today", "together")}
    return Model(
        shelf=Shelf(today=int(arrays["shelf.today"]), together=together, **own),
        rankers={question: Ranker(**_group(arrays, f"ranker-{question}")) for question in TOP},
        history=History(**_group(arrays, "history")),
        segments=Segments(**_group(arrays, "segments")),
        events_until=int(arrays["events_until"]),
    )


def _arrays(prefix: str, record: Shelf | History | Segments | Ranker) -> dict[str, NDArray[np.generic]]:
    return {f"{prefix}.{field.name}": np.asarray(getattr(record, field.name)) for field in fields(record)}


def _group(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    return {name.removeprefix(f"{prefix}."): value for name, value in arrays.items() if name.startswith(f"{prefix}.")}
