"""What a service declares that it calls, and what becomes of calls that it does not declare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import kaon
from kaon.errors import ConfigError
from kaon.sdk import handle
from kaon.sdk.service import service_of

STORE = kaon.use("store")


class Answers:
    """A link that answers with its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def call(self, endpoint: str, *_: Any) -> str:
        return f"{self._name}.{endpoint}"


@pytest.fixture(autouse=True)
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KAON_EDGE_URL", "http://edge.example")
    monkeypatch.setattr(handle, "_network", Answers)
    monkeypatch.setattr(handle, "_remote", {})
    yield
    handle.allow(None)


@kaon.service
class Cleaner:
    @kaon.endpoint
    def clean(self, text: str) -> str:
        return text


@kaon.service(uses=("events", Cleaner))
class Base:
    catalog = kaon.use("catalog")

    @kaon.endpoint
    def echo(self, text: str) -> str:
        return text


@kaon.service(uses=("catalog",))
class Derived(Base):
    own = kaon.use(Cleaner)

    def __init__(self, store: Any = STORE) -> None:
        self.store = store


def test_what_is_named_and_every_handle_of_the_class_is_declared_once() -> None:
    assert service_of(Base).uses == ("events", "cleaner", "catalog")
    assert service_of(Derived).uses == ("catalog", "cleaner", "store")
    assert service_of(Cleaner).spec().uses == ()
    assert service_of(Base).spec().uses == ("events", "cleaner", "catalog")


@pytest.mark.parametrize("uses", ["cleaner", ("Not A Name",), (7,), ("a" * 41,), (int,)])
def test_what_is_no_name_is_refused_where_the_class_is_defined(uses: Any) -> None:
    with pytest.raises(ConfigError):

        @kaon.service(uses=uses)
        class Wrong:
            @kaon.endpoint
            def echo(self, text: str) -> str:
                return text


def test_a_service_reaches_what_it_declares() -> None:
    handle.allow(service_of(Base).uses)
    assert kaon.use("events").read() == "events.read"
    assert kaon.use(Cleaner).clean(text="a") == "cleaner.clean"
    assert Base.catalog.list() == "catalog.list"


def test_what_it_does_not_declare_is_refused_with_what_to_write() -> None:
    earlier = kaon.use("payroll")
    handle.allow(service_of(Base).uses)
    with pytest.raises(ConfigError, match="`payroll`") as refused:
        kaon.use("payroll")
    assert 'uses=("payroll",)' in refused.value.hint
    with pytest.raises(ConfigError, match="`payroll`"):
        earlier.pay()


async def test_coroutines_are_refused_alike() -> None:
    earlier = kaon.use("payroll")
    handle.allow(())
    with pytest.raises(ConfigError, match="`payroll`"):
        await earlier.aio.pay()


def test_a_stand_in_of_a_test_needs_no_declaration() -> None:
    handle.allow(())
    with kaon.local(cleaner=Cleaner()):
        assert kaon.use("cleaner").clean(text="a") == "a"
