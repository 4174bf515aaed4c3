"""The recommendation: what a household will buy next, and why.

**All replicas agree.** An answer is made from what `events` knew at most 50 ms before (see `shop.feed`), and feedback
is acknowledged 50 ms after it was stored, so that it shows in the very next answer, whichever replica gives it. When
`events` does not answer in time, the answer is made from what was last heard and says so (`fresh: false`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field
from shop import model as models
from shop.feed import Feed
from shop.ledger import Kind
from shop.model import Model
from shop.session import Act
from shop.why import why

import kaon
from kaon.errors import InvalidInput, KaonError, NotFound, Unavailable

LAG_S = 0.05
REMEMBERED = 10_000
PATIENCE_S = 0.25
MOST = 100
USUAL = 10
PAUSE_S = 0.002

_log = logging.getLogger(__name__)


class Item(BaseModel):
    """One recommended product."""

    product_id: int
    name: str
    score: float = Field(description="Log odds that the household buys it within four weeks; a share for strangers.")
    why: list[str]
    parts: dict[str, float] = Field(default={}, description="What each part of the score adds, in log odds.")


class Answer(BaseModel):
    """The best products for a user."""

    user_id: int
    known: bool = Field(description="False: nothing is known of this user; popularity is answered.")
    by: str = Field(description="What it was made from, in words.")
    fresh: bool = Field(default=True, description="False: the newest events could not be asked for.")
    items: list[Item]


class Similar(BaseModel):
    """A product that goes with another."""

    product_id: int
    name: str
    score: float


class Feedback(BaseModel):
    """Stored feedback."""

    event_id: int


@kaon.service(uses=("events", "catalog", "trainer"))
class Recommendation:
    """Products that a household will buy next, each with its reasons; learns from feedback at once.

    REFRESH_S: how often to ask the trainer for a newer model.
    """

    def __init__(self, refresh_s: float = 5.0) -> None:
        self._refresh_s = refresh_s
        self._events = kaon.use("events")
        self._catalog = kaon.use("catalog")
        self._trainer = kaon.use("trainer")
        self._model: Model | None = None
        self._version = ""
        self._names: dict[int, str] = {}
        self._feed: Feed | None = None
        self._answers: OrderedDict[tuple[Any, ...], list[Item]] = OrderedDict()
        self._refreshing: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._lock: asyncio.Lock | None = None

    @kaon.on_start
    async def start(self) -> None:
        """Look for a model, and go on looking for newer ones."""
        self._lock = asyncio.Lock()
        await self._try_refresh()
        self._refreshing = asyncio.create_task(self._keep_fresh())

    @kaon.on_stop
    async def stop(self) -> None:
        """Stop looking."""
        for task in (self._refreshing, self._warming):
            if task is not None:
                task.cancel()

    @kaon.endpoint(path="/", method="GET", examples=[{"user_id": 1, "k": 10}])
    async def recommendation(
        self, user_id: int, k: int = USUAL, new_only: bool = False, age: str = "", income: str = ""
    ) -> Answer:
        """The `k` products that a household will most likely buy within four weeks, and why.

        With `new_only`, products that it never bought. `age` (such as 45-54) and `income` (50-74K) help with a user of
        whom nothing is known.
        """
        if not 1 <= k <= MOST:
            raise InvalidInput(f"k is {k}.", hint=f"Ask for 1 to {MOST} products.")
        model, feed = await self._ready()
        fresh = await self._catch_up(feed)
        _, acts = feed.of(user_id)
        if model.household(user_id) is None and not acts:
            return self._stranger(model, user_id, k, age, income, fresh)
        by = f"{_purchases(model, user_id)} purchases and {len(acts)} newer events"
        items = self._remembered(model, feed, user_id, k, new_only)
        return Answer(user_id=user_id, known=True, by=by, fresh=fresh, items=items)

    @kaon.endpoint(examples=[{"user_id": 1, "product_id": 1082185, "kind": "click"}])
    async def feedback(self, user_id: int, product_id: int, kind: Kind) -> Feedback:
        """Tell what a user did with a product: durable when this answers, and seen by the next recommendation."""
        if product_id not in self._names:
            await self._check_product(product_id)
        stored = await self._events.aio.record(user_id=user_id, product_id=product_id, kind=kind)
        await asyncio.sleep(LAG_S)  # from here on no replica answers from before this event
        return Feedback(event_id=stored["id"])

    @kaon.endpoint(method="GET", examples=[{"product_id": 1082185}])
    async def similar(self, product_id: int, k: int = 10) -> list[Similar]:
        """Products whose purchase this one speaks for most, by EASE's weights."""
        if not 1 <= k <= MOST:
            raise InvalidInput(f"k is {k}.", hint=f"Ask for 1 to {MOST} products.")
        model, _ = await self._ready()
        position = model.product(product_id)
        if position is None:
            raise NotFound(
                f"Too few households bought product {product_id} to say what goes with it, or there is none.",
                hint="Find products by words: GET /catalog/search?words=milk",
            )
        found = ((int(model.shelf.products[index]), weight) for index, weight in model.similar(position, k))
        return [Similar(product_id=p, name=self._name(p), score=round(weight, 4)) for p, weight in found]

    def _remembered(self, model: Model, feed: Feed, user_id: int, k: int, new_only: bool) -> list[Item]:
        """The household's items: those of the last time, unless it did something since or the day is another."""
        last, acts = feed.of(user_id)
        key = (self._version, user_id, k, new_only, int(feed.now), last)
        items = self._answers.get(key)
        if items is None:
            items = self._answers[key] = self._judged(model, user_id, acts, feed.now, k, new_only)
            _forget(self._answers)
        return items

    async def _warm(self, model: Model, feed: Feed) -> None:
        """Judge every household once, between requests, so that nobody's first question waits for it."""
        for user_id in model.history.households.tolist():
            if model is not self._model:
                return
            self._remembered(model, feed, int(user_id), USUAL, False)
            await asyncio.sleep(PAUSE_S)

    def _judged(self, model: Model, user_id: int, acts: list[Act], now: float, k: int, new_only: bool) -> list[Item]:
        judgement = model.judge(user_id, acts, now=now, k=k, new_only=new_only)
        items = []
        for pick in judgement.picks:
            product_id = int(model.shelf.products[pick.product])
            reasons = why(model, judgement, pick, self._names)
            parts = {part: round(added, 3) for part, added in pick.parts.items()}
            score = round(pick.score, 3)
            items.append(
                Item(product_id=product_id, name=self._name(product_id), score=score, why=reasons, parts=parts)
            )
        return items

    def _stranger(self, model: Model, user_id: int, k: int, age: str, income: str, fresh: bool) -> Answer:
        scores, known = model.segments.scores(age, income)
        whom = f"households of {' and '.join(known)}" if known else "all households"
        items = []
        for index in (-scores).argsort(kind="stable")[:k]:
            product_id = int(model.shelf.products[index])
            reason = f"about {min(scores[index], 1):.0%} of {whom} buy it in twelve weeks"
            items.append(
                Item(
                    product_id=product_id,
                    name=self._name(product_id),
                    score=round(float(scores[index]), 4),
                    why=[reason],
                )
            )
        by = f"nothing is known of user {user_id}: popularity among {whom}"
        return Answer(user_id=user_id, known=False, by=by, fresh=fresh, items=items)

    async def _catch_up(self, feed: Feed) -> bool:
        """Whether everything that was stored before is known now."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await feed.fresh()
        except (KaonError, TimeoutError) as error:
            _log.warning("events did not answer: %s", error)
            return False
        return True

    async def _look(self, after: int) -> Mapping[str, Any]:
        news: Mapping[str, Any] = await self._events.aio.since(after=after)
        return news

    async def _check_product(self, product_id: int) -> None:
        """Raises NotFound for a product that the catalog does not have."""
        try:
            await self._catalog.aio.product(product_id=product_id)
        except NotFound as error:
            raise NotFound(error.cause, hint=error.hint) from error

    async def _ready(self) -> tuple[Model, Feed]:
        if self._model is None or self._feed is None:
            await self._try_refresh()
        if self._model is None or self._feed is None:
            raise Unavailable(
                "There is no trained model yet.",
                hint="POST /trainer/clean, then /trainer/features, then /trainer/train",
            )
        return self._model, self._feed

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self._try_refresh()

    async def _try_refresh(self) -> None:
        assert self._lock is not None
        async with self._lock:
            try:
                await self._refresh()
            except (KaonError, OSError, ValueError) as error:
                _log.warning("no newer model for now: %s", error)

    async def _refresh(self) -> None:
        status = await self._trainer.aio.status()
        if not status["model"] or status["model"] == self._version:
            return
        model = await asyncio.to_thread(models.from_bytes, (await self._trainer.aio.model()).content)
        ids = model.shelf.products.tolist()
        told = await self._catalog.aio.products(product_ids=ids)
        self._names = {product["product_id"]: product["name"] for product in told}
        self._feed = Feed(self._look, after=model.events_until, now=float(model.shelf.today), lag_s=LAG_S)
        self._model, self._version = model, status["model"]
        self._answers.clear()
        self._warming = asyncio.create_task(self._warm(model, self._feed))

    def _name(self, product_id: int) -> str:
        return self._names.get(product_id, f"product {product_id}")


def _purchases(model: Model, user_id: int) -> int:
    household = model.household(user_id)
    return 0 if household is None else len(model.history.of(household)[0])


def _forget(memory: OrderedDict[Any, Any]) -> None:
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
