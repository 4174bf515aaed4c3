"""Text, contexts, questions, doctor, development: the parts of the command line on their own."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.api.views import CloudView
from kaon.cli import doctor
from kaon.cli.shared.text import age, clipped, folded, json_safe, pairs, plain, seconds, size, table, width
from kaon.client import contexts
from kaon.client.platform import PlatformClient
from kaon.errors import BadAnswer, ConfigError, DeadlineExceeded, InvalidInput, KaonError, Unavailable
from kaon.settings import Settings
from kaon.types.model import Model
from kaon.types.place import Capacity, PlaceHealth, PlaceState
from kaon.types.plan import EdgeStatus

Run = Any


@given(st.text())
def test_plain_text_moves_no_cursor(text: str) -> None:
    shown = plain(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202a\u202e\u2066\u200b" for c in shown)
    assert plain(shown) == shown


@given(st.recursive(st.text() | st.integers() | st.none(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_safe_json_means_the_same(value: Any) -> None:
    text = json_safe(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert plain(text, keep="\n") == text


def test_columns_are_even_for_wide_letters() -> None:
    lines = table(("name", "age"), [("客户", 1), ("team", 2)]).splitlines()
    assert len({width(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400), ("5 ms", 0.005)]
)
def test_lengths_of_time(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5x", "s", "1 h 2"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(InvalidInput):
        seconds(text)


def test_ages_and_sizes() -> None:
    assert [age(s) for s in (-1, 5, 61, 7200, 900_000)] == ["0s", "5s", "1m", "2h", "10d"]
    assert [size(n) for n in (0, 999, 1500, 2_500_000, 5 * 10**12)] == ["0 B", "999 B", "1.5 kB", "2.5 MB", "5000 GB"]


def test_a_text_that_is_cut_ends_with_an_ellipsis() -> None:
    assert [clipped("12345", columns) for columns in (6, 5, 4, 1)] == ["12345", "12345", "123…", "…"]
    assert clipped("日本語", 4) == "日…"


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert pairs(["A=b=c", "D="], "--env") == {"A": "b=c", "D": ""}
    with pytest.raises(InvalidInput, match="--env A is not of the form NAME=VALUE"):
        pairs(["A"], "--env")
    with pytest.raises(InvalidInput, match="--env =A is not of the form NAME=VALUE"):
        pairs(["=A"], "--env")


def test_the_last_column_goes_on_below_itself_where_the_terminal_ends() -> None:
    rows = [("1m", "It takes what it may, and no more than that."), ("2m", "")]
    assert table(("age", "message"), rows, 30).splitlines() == [
        "AGE  MESSAGE",
        "1m   It takes what it may, and",
        "     no more than that.",
        "2m",
    ]
    assert table(("age", "message"), rows, 20).splitlines() == [
        "AGE  MESSAGE",
        "1m",
        "    It takes what it",
        "    may, and no more",
        "    than that.",
        "2m",
    ]


def test_a_long_line_is_broken_between_words_and_never_within_a_command() -> None:
    text = "hint:  See what it is that it would do: kaon tune greeter --set max_batch=16; or not"
    assert folded(text, 50, 7) == [
        "hint:  See what it is that it would do:",
        "       kaon tune greeter --set max_batch=16; or",
        "       not",
    ]
    assert folded(text, 90) == [text]
    assert folded("", 10) == []
    assert folded("https://127.0.0.1:8080/greeter", 10) == ["https://127.0.0.1:8080/greeter"]


def test_contexts_are_made_used_changed_and_forgotten(run: Run, kaon_home: Path) -> None:
    assert run("config", "use", "prod").code == 0
    assert run("config", "set", "url", "https://ai.example.com").code == 0
    assert run("config", "set", "workspace", "team-a").code == 0
    assert contexts.in_use() == contexts.Context(url="https://ai.example.com", workspace="team-a")
    assert (kaon_home / "contexts.json").stat().st_mode & 0o777 == 0o600
    assert run("config", "list", "-o", "name").out.split() == ["local", "prod"]
    assert run("config", "rm", "prod").code == 2
    assert run("config", "use", "local").code == 0
    assert run("config", "rm", "prod").code == 0
    assert run("config", "use", "NO GOOD").code == 2
    assert run("ps", "-w", "x").code == 7


def test_the_environment_goes_first(kaon_home: Path) -> None:
    environ = {"KAON_URL": "https://other.example.com", "KAON_WORKSPACE": "w", "KAON_KEY": "kaon_x"}
    context = contexts.in_use(environ)
    assert (context.url, context.workspace, contexts.key_of(context, environ)) == (environ["KAON_URL"], "w", "kaon_x")


@pytest.mark.parametrize("url", ["http://ai.example.com", "ftp://x", "https://", "https://u:p@x", "https://x/?q", "x"])
def test_a_url_that_would_show_the_key_to_others_is_refused(kaon_home: Path, url: str) -> None:
    with pytest.raises(InvalidInput):
        contexts.changed(contexts.Context(), {"url": url})


def test_the_admin_key_of_this_machine_is_for_this_machine_only(kaon_home: Path) -> None:
    (kaon_home / "admin.key").write_text("kaon_admin")
    assert contexts.key_of(contexts.Context(), {}) == "kaon_admin"
    with pytest.raises(ConfigError):
        contexts.key_of(contexts.Context(url="https://ai.example.com"), {})


def test_a_broken_file_of_contexts_is_told(run: Run, kaon_home: Path) -> None:
    (kaon_home / "contexts.json").write_text('{"current": 1}')
    said = run("config", "show")
    assert said.code == 1
    assert "contexts.json" in said.err


def test_config_never_shows_a_key(run: Run, kaon_home: Path) -> None:
    (kaon_home / "admin.key").write_text("kaon_canary")
    for form in ("table", "json", "yaml", "name"):
        said = run("config", "show", "-o", form)
        assert said.code == 0
        assert "canary" not in said.out + said.err


ASK = """
from kaon.cli.shared.notes import ask
from kaon.errors import KaonError
try:
    ask("Really?", yes=False)
    print("did it")
except KaonError as error:
    print(error.code)
"""


@pytest.mark.parametrize(("answer", "done"), [(b"y\n", "did it"), (b"\n", "declined"), (b"n\n", "declined")])
def test_a_question_at_a_terminal_needs_a_yes(answer: bytes, done: str) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    asked = subprocess.run([sys.executable, "-c", ASK], stdin=theirs, capture_output=True, text=True, timeout=30)
    os.close(ours)
    os.close(theirs)
    assert asked.stdout.strip() == done
    assert "Really? [y/N]" in asked.stderr


def test_doctor_finds_what_is_wrong_and_what_to_do(kaon_home: Path) -> None:
    settings = Settings()
    (kaon_home / "admin.key").write_text("kaon_x")
    (kaon_home / "admin.key").chmod(0o644)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port))
        taken.listen()
        found = {finding.check: finding for finding in doctor.examine(settings)}
    assert found["home"].verdict == "fail"
    assert found["home"].next == f"chmod 600 {kaon_home / 'admin.key'}"
    assert found["port"].verdict == "fail"
    assert "KAON_PORT" in found["port"].next
    assert found["python"].verdict == found["uv"].verdict == found["envoy"].verdict == "ok"
    assert [finding.check for finding in found.values()] == [check.__name__ for check in doctor.CHECKS]


def test_a_check_that_fails_itself_is_a_finding(kaon_home: Path) -> None:
    def broken(_: Settings) -> doctor.CheckResult:
        raise Unavailable("gone", hint="kaon up")

    assert doctor.examine(Settings(), [broken])[0].next == "kaon up"


@pytest.mark.parametrize(
    ("place", "verdict", "cause"),
    [
        (PlaceHealth(used=Capacity(cpus=1), free=Capacity(cpus=3, memory_bytes=2**30)), "ok", "a: 1/4 cpu, 0/1 GiB"),
        (PlaceHealth(), "ok", "a: -"),
        (PlaceHealth(state=PlaceState.DEGRADED, reason="No disk."), "warn", "a is degraded: No disk."),
        (PlaceHealth(state=PlaceState.UNAVAILABLE), "warn", "a is unavailable: no reason was given"),
    ],
)
def test_doctor_shows_the_capacity_and_health_of_each_cloud(place: PlaceHealth, verdict: str, cause: str) -> None:
    facts: dict[str, Any] = {"driver": "x", "edge_url": "", "seen_at": 1, "connected": True, "replicas": 0, "ready": 0}
    cloud = CloudView(name="a", edge=EdgeStatus(), place=place, **facts)
    found = doctor.of_clouds([cloud])
    assert (found.verdict, found.cause.startswith(cause)) == (verdict, True)


class Answer(Model):
    value: int


def platform_that_says(respond: Callable[[httpx2.Request], httpx2.Response]) -> PlatformClient:
    platform = PlatformClient("kaon_x", url="https://ai.example.com")
    platform._http._transport = httpx2.MockTransport(respond)
    platform._http._mounts = {}
    return platform


def test_the_client_reads_problems_with_their_request_id() -> None:
    problem = {"code": "not-found", "detail": "no", "hint": "look", "request_id": "r-1"}
    with pytest.raises(KaonError) as caught:
        platform_that_says(lambda _: httpx2.Response(404, json=problem)).read(Answer, "/x")
    assert (caught.value.code, caught.value.hint, caught.value.request_id) == ("not-found", "look", "r-1")


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"value": "x"}'])
def test_the_client_refuses_what_it_does_not_know(content: bytes) -> None:
    with pytest.raises(BadAnswer):
        platform_that_says(lambda _: httpx2.Response(200, content=content)).read(Answer, "/x")
    with pytest.raises(BadAnswer):
        platform_that_says(lambda _: httpx2.Response(200, content=content)).items(Answer, "/x")


def test_the_client_reads_what_a_newer_platform_says_more_of() -> None:
    platform = platform_that_says(lambda _: httpx2.Response(200, content=b'{"value": 1, "more": 2}'))
    assert platform.read(Answer, "/x") == Answer(value=1)


def test_the_client_follows_no_redirect() -> None:
    away = httpx2.Response(307, headers={"location": "https://evil.example.com/"})
    with pytest.raises(KaonError, match="307"):
        platform_that_says(lambda _: away).read(Answer, "/x")


def test_the_client_tells_slow_from_gone() -> None:
    def slow(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("slow")

    def gone(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("gone")

    with pytest.raises(DeadlineExceeded):
        platform_that_says(slow).read(Answer, "/x")
    with pytest.raises(Unavailable):
        platform_that_says(gone).read(Answer, "/x")
