"""The events: what households did: purchases, views, clicks, comments, shares. The shop's memory."""

from __future__ import annotations

import asyncio
import io

import numpy as np
from pydantic import BaseModel, Field
from shop import journey
from shop.ledger import KINDS, Kind, Ledger

import kaon
from kaon.errors import InvalidInput

PAGE = 500_000
MOST = 1000


class Stored(BaseModel):
    """An event that is on disk."""

    id: int


class Act(BaseModel):
    """One event of a user."""

    id: int
    user_id: int
    product_id: int
    kind: Kind
    day: float = Field(description="Days since the shop opened.")


class News(BaseModel):
    """What happened."""

    now: float = Field(description="The shop's day, with a fraction.")
    acts: list[Act]
    more: bool = Field(description="Whether there are newer ones than these.")


class Household(BaseModel):
    """Somebody who told who they are."""

    household_id: int
    age: str
    income: str


@kaon.service
class Events:
    """Every event of the shop, durable, in order; the real purchases are there from the first start.

    With DATABASE_URL (postgresql://...) they are kept there, else in SQLite in the deployment's own folder.
    """

    def __init__(self, database_url: str = "") -> None:
        self._ledger = Ledger(database_url or kaon.data_dir() / "events.db")
        self._ledger.open(journey.purchases, day=journey.DAYS)

    @kaon.endpoint(examples=[{"user_id": 1, "product_id": 1082185, "kind": "click"}])
    def record(self, user_id: int, product_id: int, kind: Kind) -> Stored:
        """Store one event; it is durable when this answers."""
        if not 0 < user_id < 2**31 or not 0 < product_id < 2**31:
            raise InvalidInput("user_id and product_id are positive numbers below 2147483648.")
        return Stored(id=self._ledger.record(user_id, product_id, kind))

    @kaon.endpoint(method="GET", examples=[{"after": 1469307}])
    async def since(self, after: int) -> News:
        """Up to 1,000 events with numbers above `after`, in order, and the shop's day."""
        rows = await asyncio.to_thread(self._ledger.page, after=after, limit=MOST)
        acts = [
            Act(id=id_, user_id=user, product_id=product, kind=KINDS[kind], day=day)
            for id_, user, product, _, kind, day in rows.tolist()
        ]
        return News(now=self._ledger.today(), acts=acts, more=len(acts) == MOST)

    @kaon.endpoint(method="GET", examples=[{"user_id": 1, "limit": 20}])
    def of(self, user_id: int, limit: int = 100) -> list[Act]:
        """The newest events of a user, oldest first."""
        entries = self._ledger.of_user(user_id, limit=min(max(limit, 1), MOST))
        return [Act(id=e.id, user_id=user_id, product_id=e.product_id, kind=e.kind, day=e.day) for e in entries]

    @kaon.endpoint(method="GET", timeout_s=300)
    def history(self, after: int = 0, limit: int = PAGE) -> bytes:
        """A page of all events as npz: id, user_id, product_id, basket, kind (0 is a purchase), day, and `now`.

        Numbered above `after`; an empty page is the end.
        """
        rows = self._ledger.page(after=after, limit=min(limit, PAGE))
        file = io.BytesIO()
        columns = {name: rows[name] for name in rows.dtype.names or ()}
        np.savez(file, allow_pickle=False, now=np.array(self._ledger.today()), **columns)
        return file.getvalue()

    @kaon.endpoint(method="GET")
    def households(self) -> list[Household]:
        """The households that told their age and income."""
        return [Household.model_validate(person) for person in journey.households()]

    @kaon.on_stop
    def close(self) -> None:
        """Close the database."""
        self._ledger.close()
