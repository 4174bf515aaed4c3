"""What agents send, as far as it is of their own cloud; the rest is dropped, and the log says how much it was."""

from __future__ import annotations

from collections.abc import Callable

from kaon import log
from kaon.api.plans import Plans
from kaon.laws.reports import Dropped, accepted, may_count
from kaon.store.snapshot import Snapshot
from kaon.types.plan import Plan, Report
from kaon.types.resource import Cloud
from kaon.types.traffic import Sample

_log = log.get("api.intake")


class Intake:
    """Holds what agents send against their clouds' plans."""

    def __init__(self, snapshot: Snapshot, plans: Plans) -> None:
        self._snapshot = snapshot
        self._plans = plans
        self._dropped: dict[str, Dropped] = {}

    def report(self, report: Report) -> Report:
        """What is taken of a report."""
        taken, dropped = accepted(report, self._plan(report.cloud), self._last(report.cloud))
        if dropped != self._dropped.get(report.cloud, Dropped()):  # said when it changes, not with every report
            self._dropped[report.cloud] = dropped
            if dropped:
                _log.warning("a report tells of what is not of its cloud", cloud=report.cloud, dropped=dict(dropped))
        return taken

    def counted(self, cloud: str) -> Callable[[Sample], bool]:
        """Whether a sample is taken from that cloud."""
        plan, last = self._plan(cloud), self._last(cloud)
        return lambda sample: may_count(sample, plan, last)

    def _plan(self, cloud: str) -> Plan:
        named = self._plans.of(cloud)
        return named.plan if named else Plan(cloud=cloud)

    def _last(self, cloud: str) -> Report | None:
        found: Cloud | None = self._snapshot.find("cloud", "", cloud)
        return found.status.report if found else None
