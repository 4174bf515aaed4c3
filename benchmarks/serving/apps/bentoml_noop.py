"""The same on BentoML."""

import bentoml
from pydantic import BaseModel


class Item(BaseModel):
    text: str
    n: int = 1


@bentoml.service(traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Noop:
    @bentoml.api(route="/noop")
    async def noop(self, item: Item, /) -> Item:  # the body is the item
        return item
