"""The events: what households did: purchases, views, clicks, comments, shares. The shop's memory."""

from __future__ import annotations

import asyncio
import io
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field
from shop import journey
from shop.ledger import Ledger

import kaon
from kaon.errors import InvalidInput

Kind = Literal["purchase", "view", "click", "comment", "share"]
PAGE = 500_000
RECENT = 200


class Stored(BaseModel):
    """An event that is on disk."""

    id: int


class Act(BaseModel):
    """One event of a user."""

    id: int
    product_id: int
    kind: Kind
    day: float = Field(description="Days since the shop opened.")


class Recent(BaseModel):
    """The newest events of a user."""

    now: float = Field(description="The shop's day, with a fraction.")
    acts: list[Act]


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

    @kaon.endpoint(method="GET", examples=[{"user_id": 1}])
    async def recent(self, user_id: int, after: int = 0) -> Recent:
        """The newest 200 events of a user, numbered above `after`, oldest first, and the shop's day."""
        entries = await asyncio.to_thread(self._ledger.of_user, user_id, after=after, limit=RECENT)
        acts = [Act(id=e.id, product_id=e.product_id, kind=e.kind, day=e.day) for e in entries]  # type: ignore[arg-type]
        return Recent(now=self._ledger.today(), acts=acts)

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
