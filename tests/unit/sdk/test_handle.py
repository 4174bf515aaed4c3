import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import Context, ContextVar
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import kaon
from kaon import context
from kaon.errors import BadAnswer, ConfigError, InvalidInput, NotFound


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAON_EDGE_URL", raising=False)


class Text(BaseModel):
    text: str
    language: str = "en"


@kaon.service
class Cleaner:
    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.life: list[str] = []

    @kaon.on_start
    async def begin(self) -> None:
        self.life.append("start")
        self.loop = asyncio.get_running_loop()

    @kaon.on_stop
    def end(self) -> None:
        self.life.append("stop")

    @kaon.endpoint
    def clean(self, text: str) -> str:
        return self.prefix + " ".join(text.split())

    @kaon.endpoint
    async def tag(self, text: Text) -> Text:
        assert asyncio.get_running_loop() is self.loop
        return Text(text=text.text + context.request_id.get(), language=text.language)

    @kaon.endpoint(batch=kaon.Batch())
    def lengths(self, texts: list[str]) -> list[int]:
        found: list[Any] = [len(text) if text else kaon.ItemError("the text is empty") for text in texts]
        return found if texts[0] != "few" else found[1:]

    @kaon.endpoint(method="GET", path="/words/{text}")
    def words(self, text: str, most: int = 9) -> Iterator[str]:
        yield from text.split()[:most]

    @kaon.endpoint
    async def slowly(self, text: str) -> AsyncIterator[str]:
        try:
            for word in text.split():
                yield word
        finally:
            self.life.append("closed")

    @kaon.endpoint
    def mirror(self, image: kaon.Image, values: list[float]) -> kaon.Image:
        return image

    @kaon.endpoint
    def wrong(self) -> int:
        return "no number"  # type: ignore[return-value]


def test_a_name_stands_for_what_the_test_says() -> None:
    with kaon.local(cleaner=Cleaner("> ")):
        assert kaon.use("cleaner").clean(text=" a  b ") == "> a b"
    with pytest.raises(ConfigError, match="There is no service `cleaner` here") as error:
        kaon.use("cleaner").clean(text="a")
    assert "kaon.local(cleaner=" in error.value.hint


def test_a_class_stands_for_an_instance_with_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFIX", "env ")
    assert kaon.use(Cleaner).clean(" a ") == "env a"
    with kaon.local(cleaner=Cleaner("test ")):
        assert kaon.use(Cleaner).clean("a") == "test a"


def test_hooks_run_around_it() -> None:
    cleaner = Cleaner()
    with kaon.local(cleaner=cleaner):
        assert cleaner.life == ["start"]
    assert cleaner.life == ["start", "stop"]


def test_a_class_gives_typed_answers_and_a_name_plain_ones() -> None:
    with kaon.local(cleaner=Cleaner()):
        assert kaon.use(Cleaner).tag(Text(text="a")) == Text(text="a")
        assert kaon.use(Cleaner).tag(text=Text(text="a")) == Text(text="a")
        assert kaon.use("cleaner").tag(text="a") == {"text": "a", "language": "en"}
        assert kaon.use("cleaner").tag({"text": "a"}) == {"text": "a", "language": "en"}


def test_the_validation_is_that_of_the_network() -> None:
    with kaon.local(cleaner=Cleaner()):
        for cleaner in (kaon.use("cleaner"), kaon.use(Cleaner)):
            with pytest.raises(InvalidInput):
                cleaner.clean(text=3)
            with pytest.raises(InvalidInput):
                cleaner.clean(text="a", other=1)
            with pytest.raises(BadAnswer):
                cleaner.wrong()
            with pytest.raises(NotFound, match="no endpoint `nothing`"):
                cleaner.nothing()


def test_the_request_in_hand_is_carried_on() -> None:
    token = context.request_id.set("!")
    try:
        with kaon.local(cleaner=Cleaner()):
            assert kaon.use(Cleaner).tag(Text(text="a")).text == "a!"
    finally:
        context.request_id.reset(token)


def test_batched_endpoints_answer_row_for_row() -> None:
    with kaon.local(cleaner=Cleaner()):
        cleaner = kaon.use("cleaner")
        assert cleaner.lengths(texts=["a", "bb"]) == [1, 2]
        with pytest.raises(kaon.ItemError, match="empty"):
            cleaner.lengths(texts=["a", ""])
        with pytest.raises(BadAnswer, match="one for each row"):
            cleaner.lengths(texts=["few", "b"])


def test_streams_are_iterators() -> None:
    cleaner = Cleaner()
    with kaon.local(cleaner=cleaner):
        assert list(kaon.use("cleaner").words(text="a b c", most=2)) == ["a", "b"]
        stream = kaon.use("cleaner").slowly(text="a b c")
        assert next(stream) == "a"
        stream.close()
        assert cleaner.life[-1] == "closed"


def test_files_and_arrays_go_through() -> None:
    image = kaon.Image(b"GIF89a", name="a.gif")
    with kaon.local(cleaner=Cleaner()):
        answer = kaon.use(Cleaner).mirror(image=image, values=np.ones(2))
    assert isinstance(answer, kaon.Image)
    assert answer.content == b"GIF89a"


async def test_coroutines_use_aio_and_plain_calls_are_refused_there() -> None:
    with kaon.local(cleaner=Cleaner()):
        cleaner = kaon.use("cleaner")
        assert await cleaner.aio.clean(text=" a ") == "a"
        assert [word async for word in cleaner.aio.slowly(text="a b")] == ["a", "b"]
        assert await cleaner.aio.words(text="a b") == ["a", "b"]
        with pytest.raises(ConfigError, match="event loop") as error:
            cleaner.clean(text="a")
        assert "await handle.aio.clean" in error.value.hint
        with pytest.raises(InvalidInput, match="not a stream"):
            async for _ in cleaner.aio.clean(text="a"):
                pass


def test_names_with_dashes_are_written_with_underscores() -> None:
    with kaon.local(text_cleaner=Cleaner()):
        assert kaon.use("text-cleaner").clean(text="a") == "a"


STYLE: ContextVar[str] = ContextVar("style", default="none")


@kaon.service
class Styled:
    def __init__(self) -> None:
        STYLE.set("constructor's")
        self.now = self.most = 0

    def _seen(self) -> list[str]:
        seen = [STYLE.get(), context.request_id.get()]
        STYLE.set("a call's")
        return seen

    @kaon.endpoint
    def plain(self) -> list[str]:
        return self._seen()

    @kaon.endpoint
    async def coroutine(self) -> list[str]:
        return self._seen()

    @kaon.endpoint
    def items(self) -> Iterator[list[str]]:
        yield self._seen()

    @kaon.endpoint(concurrency=1)
    def one(self) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        threading.Event().wait(0.001)
        self.now -= 1
        return self.most


def test_handlers_here_run_in_copies_of_the_instances_context_as_where_they_are_deployed() -> None:
    handle = kaon.use(Styled)

    def calls() -> list[Any]:
        context.request_id.set("of the caller")
        return [handle.plain(), handle.coroutine(), *handle.items(), handle.plain()]

    with kaon.local(styled=Styled()):
        assert Context().run(calls) == [["constructor's", "of the caller"]] * 4


async def test_handlers_here_run_one_at_a_time_where_they_say_so() -> None:
    with kaon.local(styled=Styled()):
        handle = kaon.use(Styled)
        assert await asyncio.gather(*(handle.aio.one() for _ in range(8))) == [1] * 8


@kaon.service
class Placed:
    def __init__(self, home: str = "the default", place: str = "the default") -> None:
        self.told = [home, place]

    @kaon.endpoint
    def settings(self) -> list[str]:
        return self.told


def test_settings_here_ignore_the_variables_of_every_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("PLACE", "of the shell")
    assert kaon.use(Placed).settings() == ["the default", "of the shell"]
