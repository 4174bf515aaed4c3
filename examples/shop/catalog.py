"""The catalog: what the shop sells."""

from __future__ import annotations

from pydantic import BaseModel, Field
from shop import journey

import kaon
from kaon.errors import NotFound

MOST_IDS = 5000


class Product(BaseModel):
    """One product."""

    product_id: int
    name: str = Field(description="Its type and size, for people.")
    department: str
    brand: str
    category: str
    type: str
    size: str


@kaon.service
class Catalog:
    """Products of the shop: names, brands, categories, by id or by words."""

    def __init__(self) -> None:
        self._products = {product["product_id"]: product for product in journey.products()}

    @kaon.endpoint(method="GET", examples=[{"product_id": 1082185}])
    def product(self, product_id: int) -> Product:
        """One product by its id."""
        if product_id not in self._products:
            raise NotFound(f"There is no product {product_id}.", hint="Search by words: GET /catalog/search?words=milk")
        return _told(self._products[product_id])

    @kaon.endpoint(idempotent=True, examples=[{"product_ids": [1082185, 995242]}])
    def products(self, product_ids: list[int]) -> list[Product]:
        """Many products by their ids, at most 5,000; those that do not exist are left out."""
        known = (self._products.get(product_id) for product_id in product_ids[:MOST_IDS])
        return [_told(product) for product in known if product is not None]

    @kaon.endpoint(method="GET", examples=[{"words": "milk chocolate", "k": 5}])
    def search(self, words: str, k: int = 10) -> list[Product]:
        """The first `k` products that hold all the words in their type, category, department or brand."""
        wanted = words.upper().split()
        found: list[Product] = []
        for product in self._products.values():
            text = f"{product['type']} {product['category']} {product['department']} {product['brand']}".upper()
            if all(word in text for word in wanted):
                found.append(_told(product))
                if len(found) >= min(k, 100):
                    break
        return found


def _told(product: dict[str, str]) -> Product:
    name = (product["type"] or product["category"] or product["department"] or "product").capitalize()
    size = " ".join(product["size"].lower().split())
    return Product.model_validate({**product, "name": f"{name}, {size}" if size else name})
