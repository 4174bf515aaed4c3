"""The trainer: from events to a model, in three steps that can be called one by one."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from shop import model as models
from shop.history import History, Purchases, clean
from shop.segments import segment
from shop.shelf import stock
from shop.training import HORIZON_DAYS, Examples, examples, train

import kaon
from kaon.errors import Conflict, NotFound

LONG_S = 600.0


class Step(BaseModel):
    """What a step made."""

    step: Literal["clean", "features", "train"]
    rows: int
    products: int
    households: int
    took_s: float


class Status(BaseModel):
    """What there is."""

    model: str = Field(description="Version of the newest model, '' when there is none.")
    events_until: int = Field(description="Number of the last event that it has learned from.")
    trained_at: float = Field(description="Epoch seconds, 0 when never.")


@kaon.service(uses=("events", "catalog"))
class Trainer:
    """Cleaning, features, training: each step keeps its result in the deployment's own folder for the next.

    EXAMPLES: how many households the ranker learns from; MIN_HOUSEHOLDS: how many must have bought a product for it
    to be recommended at all.
    """

    def __init__(self, examples: int = 800, min_households: int = 60) -> None:
        self._examples = examples
        self._min_households = min_households
        self._folder = kaon.data_dir()
        self._busy = Lock()
        self._events = kaon.use("events")
        self._catalog = kaon.use("catalog")

    @kaon.endpoint(timeout_s=LONG_S, idempotent=False)
    def clean(self) -> Step:
        """Fetch all events; keep purchases of products that enough households bought, each once a basket."""
        with self._alone():
            began = time.perf_counter()
            pages, now = self._fetch()
            everything = {name: np.concatenate([page[name] for page in pages]) for name in pages[0]}
            purchase = everything["kind"] == 0
            raw = Purchases(
                household=everything["user_id"][purchase].astype(np.int64),
                product=everything["product_id"][purchase].astype(np.int64),
                basket=everything["basket"][purchase],
                day=everything["day"][purchase].astype(np.int16),
            )
            history = clean(raw, min_households=self._min_households)
            wanted = np.isin(raw.product, history.products)
            ids = history.products.tolist()
            sold = [p for i in range(0, len(ids), 2000) for p in self._catalog.products(product_ids=ids[i : i + 2000])]
            self._write_json("catalog.json", [{k: p[k] for k in ("product_id", "type", "category")} for p in sold])
            self._write_json("people.json", self._events.households())
            self._write_arrays(
                "purchases.npz",
                household=raw.household[wanted],
                product=raw.product[wanted],
                basket=raw.basket[wanted],
                day=raw.day[wanted],
                today=np.array(int(now)),
                events_until=everything["id"].max(),
            )
            self._write_arrays("history.npz", **vars(history))
            return _step("clean", int(wanted.sum()), history, began)

    @kaon.endpoint(timeout_s=LONG_S, idempotent=False)
    def features(self) -> Step:
        """Judge candidates as of four weeks ago, with what was known then, and note what was bought since."""
        with self._alone():
            began = time.perf_counter()
            raw, catalog, arrays = self._cleaned()
            taught = examples(
                raw,
                catalog,
                today=int(arrays["today"]) - HORIZON_DAYS,
                households=self._examples,
                min_households=self._min_households,
            )
            named = {f"{q}.{name}": value for q, e in taught.items() for name, value in vars(e).items()}
            self._write_arrays("examples.npz", **named)
            return _step("features", sum(len(e.label) for e in taught.values()), self._history(), began)

    @kaon.endpoint(timeout_s=LONG_S, idempotent=False)
    def train(self) -> Step:
        """Fit EASE on all days and the rankers on the examples; the model is there for `GET /trainer/model` then."""
        with self._alone():
            began = time.perf_counter()
            _, catalog, arrays = self._cleaned()
            named = self._arrays("examples.npz", "features")
            parts = {q: Examples(*(named[f"{q}.{n}"] for n in ("features", "seen", "label"))) for q in ("all", "new")}
            today = int(arrays["today"])
            history = self._history()
            people = json.loads((self._folder / "people.json").read_text())
            model = models.Model(
                shelf=stock(history, catalog, today=today),
                rankers=train([parts]),
                history=history,
                segments=segment(history, people, today=today),
                events_until=int(arrays["events_until"]),
            )
            _replace(self._folder / "model.npz", models.to_bytes(model))
            self._write_json("model.json", {"events_until": model.events_until, "trained_at": time.time()})
            return _step("train", sum(len(e.label) for e in parts.values()), history, began)

    @kaon.endpoint(method="GET", timeout_s=LONG_S)
    def model(self) -> bytes:
        """The newest model as npz: arrays only; `shop.model.from_bytes` reads it."""
        path = self._folder / "model.npz"
        if not path.exists():
            raise NotFound(
                "No model was trained yet.", hint="POST /trainer/clean, then /trainer/features, /trainer/train"
            )
        return path.read_bytes()

    @kaon.endpoint(method="GET")
    def status(self) -> Status:
        """Whether there is a model, and what it has learned from."""
        path = self._folder / "model.json"
        if not path.exists():
            return Status(model="", events_until=0, trained_at=0)
        noted = json.loads(path.read_text())
        return Status(model=f"{noted['events_until']}-{int(noted['trained_at'])}", **noted)

    def _fetch(self) -> tuple[list[dict[str, NDArray[Any]]], float]:
        pages: list[dict[str, NDArray[Any]]] = []
        after = 0
        while True:
            with np.load(io.BytesIO(self._events.history(after=after).content), allow_pickle=False) as file:
                page = {name: file[name] for name in file.files}
            now = float(page.pop("now"))
            if len(page["id"]) == 0:
                break
            pages.append(page)
            after = int(page["id"][-1])
        if not pages:
            raise Conflict("There are no events to learn from.", hint="Record some: POST /events/record")
        return pages, now

    def _cleaned(self) -> tuple[Purchases, dict[int, dict[str, str]], dict[str, NDArray[Any]]]:
        arrays = self._arrays("purchases.npz", "clean")
        raw = Purchases(*(arrays[name] for name in ("household", "product", "basket", "day")))
        sold = json.loads((self._folder / "catalog.json").read_text())
        return raw, {product["product_id"]: product for product in sold}, arrays

    def _history(self) -> History:
        return History(**self._arrays("history.npz", "clean"))

    def _arrays(self, name: str, step: str) -> dict[str, NDArray[Any]]:
        path = self._folder / name
        if not path.exists():
            raise Conflict(f"The step `{step}` comes first.", hint=f"POST /trainer/{step}")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def _write_arrays(self, name: str, **arrays: NDArray[Any]) -> None:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        _replace(self._folder / name, file.getvalue())

    def _write_json(self, name: str, value: Any) -> None:
        _replace(self._folder / name, json.dumps(value).encode())

    def _alone(self) -> _Alone:
        return _Alone(self._busy)


class _Alone:
    """One step at a time; a second caller is told, not queued."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise Conflict("Another step is running.", hint="Call again when it is done.")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _step(step: Literal["clean", "features", "train"], rows: int, history: Any, began: float) -> Step:
    return Step(
        step=step,
        rows=rows,
        products=len(history.products),
        households=len(history.households),
        took_s=round(time.perf_counter() - began, 2),
    )


def _replace(path: Path, content: bytes) -> None:
    """Write beside and rename: a reader sees the old file or the new one, whole."""
    beside = path.with_suffix(f".{os.getpid()}.part")
    beside.write_bytes(content)
    beside.rename(path)
