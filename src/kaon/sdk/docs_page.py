"""The docs page of a deployment: one HTML file with its style and script inside, the same for every service.

It has no data of the service: it reads `openapi.json` beside it, with the key that the reader enters. So it is public,
unlike the document. Nothing is loaded from elsewhere; the policy allows this style and this script, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class DocsPage:
    """The page and the headers to send with it."""

    html: bytes
    headers: tuple[tuple[str, str], ...]


@cache
def docs_page() -> DocsPage:
    """The page, cached."""
    folder = resources.files("kaon.sdk") / "docs"
    html, style, script = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_digest(style)}",
            f"script-src {_digest(script)}",
            "connect-src 'self'",
            "img-src blob: data:",
            "media-src blob:",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
    return DocsPage(
        html.replace("/*page.css*/", style).replace("/*page.js*/", script).encode(),
        (
            ("content-type", "text/html; charset=utf-8"),
            ("content-security-policy", policy),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ),
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
