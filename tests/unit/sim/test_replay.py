"""What would have happened, as figures and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree

from kaon.sim import picture
from kaon.sim.replay import ReplayedService, ReplayOptions, replay
from kaon.sim.trace import Trace
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective

SERVICE = ReplayedService(row_s=0.02, call_s=0.08, max_batch=8, start_s=5.0)
OBJECTIVE = Objective(latency_s=0.4, deadline_s=0.5)
DOUBLES = Trace("doubles", (40.0,) * 150 + (80.0,) * 150, 1.0, counted=True)


def test_a_smaller_maximum_costs_less_and_answers_fewer_in_time() -> None:
    wide, narrow = (
        replay(ReplayOptions(Scaling(min=1, max=most), OBJECTIVE), SERVICE, DOUBLES, compiled=False) for most in (20, 2)
    )
    assert wide.calls == narrow.calls == 18_000
    assert wide.attainment > 0.95 > narrow.attainment
    assert narrow.most_replicas == 2 < wide.most_replicas
    assert narrow.replica_seconds < wide.replica_seconds
    assert narrow.worst_5min <= narrow.attainment + 1e-9
    assert wide.p50_s <= wide.p90_s <= wide.p99_s
    assert sum(wide.load) * 2 == wide.calls


def test_it_says_how_far_it_is() -> None:
    progress: list[float] = []
    short = Trace("short", (20.0,) * 40, 1.0, counted=True)
    options = ReplayOptions(Scaling(min=0, max=9), OBJECTIVE)
    answer = replay(options, SERVICE, short, compiled=False, on_progress=progress.append)
    assert answer.calls == 800
    assert 1 <= answer.most_replicas <= 9
    assert progress == sorted(progress)
    assert progress[-1] <= 1


def test_the_same_question_gets_the_same_answer() -> None:
    short = Trace("short", (20.0,) * 60, 1.0)
    options = ReplayOptions(Scaling(min=1, max=9), OBJECTIVE)
    assert replay(options, SERVICE, short, seed=4, compiled=False) == replay(
        options, SERVICE, short, seed=4, compiled=False
    )


def test_a_picture_is_sound_whatever_the_names() -> None:
    text = picture.picture('a<b>"&', {"<script>": ([1.0, 5.0, 2.0], picture.BLUE), "none": ([], picture.GREY)}, 60)
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "<script>" not in text


def test_a_long_series_keeps_its_peaks_when_it_is_thinned() -> None:
    values = [0.0] * 1000
    values[567] = 9.0
    shown = picture.thinned(values, 70)
    assert len(shown) == 70
    assert max(shown) == 9.0
    assert picture.thinned([1, 2, 3], 70) == [1, 2, 3]
