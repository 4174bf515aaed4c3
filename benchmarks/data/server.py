"""The platform's server alone, over the home in KAON_HOME."""

from __future__ import annotations

import asyncio

from kaon.clock import SystemClock
from kaon.settings import Settings
from kaon.stack.server import serve

if __name__ == "__main__":
    Settings().run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(serve(Settings(), SystemClock()))
