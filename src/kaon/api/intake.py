"""Checks what agents send: what is not of their own cloud is dropped and logged."""

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
    """Checks what agents send against their clouds' plans."""

    def __init__(self, snapshot: Snapshot, plans: Plans) -> None:
        self._snapshot = snapshot
        self._plans = plans
        self._dropped: dict[str, Dropped] = {}

    def report(self, report: Report) -> Report:
        """The accepted part of a report."""
        taken, dropped = accepted(report, self._plan(report.cloud), self._last(report.cloud))
        if dropped != self._dropped.get(report.cloud, Dropped()):  # logged on a change, not with every report
            self._dropped[report.cloud] = dropped
            if dropped:
                _log.warning("a report contains entries of other clouds", cloud=report.cloud, dropped=dict(dropped))
        return taken

    def counted(self, cloud: str) -> Callable[[Sample], bool]:
        """A test of whether a sample is accepted from that cloud."""
        plan, last = self._plan(cloud), self._last(cloud)
        return lambda sample: may_count(sample, plan, last)

    def _plan(self, cloud: str) -> Plan:
        named = self._plans.of(cloud)
        return named.plan if named else Plan(cloud=cloud)

    def _last(self, cloud: str) -> Report | None:
        found: Cloud | None = self._snapshot.find("cloud", "", cloud)
        return found.status.report if found else None
