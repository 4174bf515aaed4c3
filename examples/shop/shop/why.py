"""Why a product was recommended, in words: the largest parts of its score, each told by the facts behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shop.model import Judgement, Model, Pick

REASONS = 2
NOTABLE = 0.1
"""Log odds from which on the session is always told."""
DONE = {"view": "looked at", "click": "clicked on", "comment": "commented on", "share": "shared", "purchase": "bought"}


def why(model: Model, judgement: Judgement, pick: Pick, names: Mapping[int, str]) -> list[str]:
    """The reasons of the two largest parts, the largest first, and what was done just now if that had any part.

    `names` are products' names by id.
    """
    tellers = {
        "habit": _habit,
        "rhythm": _rhythm,
        "taste": _taste,
        "category": _category,
        "popularity": _popularity,
        "trend": _trend,
        "session": _session,
    }
    reasons: list[str] = []
    for part in sorted(tellers, key=lambda part: -pick.parts[part]):
        wanted = len(reasons) < REASONS if part != "session" else pick.parts[part] >= NOTABLE
        if pick.parts[part] > 0 and wanted:
            reasons += filter(None, [tellers[part](model, judgement, pick.product, names)])
    return reasons or [_popularity(model, judgement, pick.product, names)]


def _habit(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    own = judgement.own
    times = int(own.baskets[product])
    match times:
        case 0:
            return ""
        case 1:
            return f"bought once, {_ago(own.days_since[product])}"
        case _:
            last = f"last {_ago(own.days_since[product])}"
            gap = own.gap_days[product]
            return (
                f"bought {times} times, about every {_days(gap)}, {last}"
                if gap > 0
                else f"bought {times} times, {last}"
            )


def _rhythm(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    return "about time to buy it again" if judgement.own.seen[product] else ""


def _taste(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    bought = np.flatnonzero(judgement.own.seen)
    spoke = np.log1p(judgement.own.baskets[bought]) * model.shelf.together[bought, product]
    best = int(np.argmax(spoke)) if len(bought) else -1
    return f"often bought with {_name(model, int(bought[best]), names)}" if best >= 0 and spoke[best] > 0 else ""


def _category(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    bought = np.flatnonzero(judgement.own.seen)
    bought = bought[bought != product]
    for group in (model.shelf.kind, model.shelf.category):
        kin = bought[group[bought] == group[product]]
        if len(kin):
            favourite = int(kin[np.argmax(judgement.own.weight[kin])])
            return f"of a kind with {_name(model, favourite, names)}, which you buy"
    return ""


def _popularity(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    return f"bought by {int(model.shelf.recent[product])} households in four weeks"


def _trend(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    return "sells more than it did" if model.shelf.trend[product] > 0 else ""


def _session(model: Model, judgement: Judgement, product: int, names: Mapping[int, str]) -> str:
    latest = judgement.session
    cause = int(latest.cause[product]) if latest.cause is not None else -1
    if cause < 0:
        return ""
    done = DONE[latest.last[cause]]
    return f"you {done} it lately" if cause == product else f"goes with {_name(model, cause, names)}, which you {done}"


def _name(model: Model, product: int, names: Mapping[int, str]) -> str:
    product_id = int(model.shelf.products[product])
    return names.get(product_id, f"product {product_id}")


def _days(days: float) -> str:
    rounded = max(round(days), 1)
    return "day" if rounded == 1 else f"{rounded} days"


def _ago(days: float) -> str:
    rounded = round(days)
    return {0: "today", 1: "yesterday"}.get(rounded, f"{rounded} days ago")
