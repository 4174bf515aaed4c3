from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

import kaon
from kaon.errors import ConfigError
from kaon.sdk.service import construct, service_of
from kaon.types.service import EndpointKind, runs_alone

CLEANER = kaon.use("cleaner")


class Store(BaseModel):
    url: str


@kaon.service(requirements=("scikit-learn>=1.5",), resources=kaon.Resources(cpus=2))
class ShopRecommender:
    """What to buy next.

    At length.
    """

    def __init__(
        self,
        database_url: str,
        token: SecretStr,
        k: int = 10,
        tags: list[str] | None = None,
        store: Store | None = None,
        cleaner: Any = CLEANER,
    ) -> None:
        self.given = (database_url, token.get_secret_value(), k, tags, store)

    @kaon.endpoint(method="GET", path="/")
    def recommend(self, user_id: int) -> list[int]:
        """The products.

        More of it.
        """
        return [user_id]

    @kaon.endpoint(timeout_s=None, concurrency=1, idempotent=True)
    async def re_train(self) -> None: ...

    @kaon.endpoint
    def follow(self, user_id: int) -> Any:
        yield user_id

    @kaon.on_start
    def warm(self) -> None: ...

    @kaon.on_stop
    async def flush(self) -> None: ...


def test_the_class_stays_what_it_was() -> None:
    assert ShopRecommender("db", SecretStr("t")).recommend(3) == [3]


def test_a_service_is_compiled_from_its_class() -> None:
    spec = service_of(ShopRecommender).spec()
    assert (spec.name, spec.summary) == ("shop-recommender", "What to buy next.")
    assert spec.entry == f"{__name__}:ShopRecommender"
    assert spec.resources.cpus == 2
    assert spec.requirements == ("scikit-learn>=1.5",)
    recommend, train, follow = spec.endpoints
    assert (recommend.method, recommend.path, recommend.summary) == ("GET", "/", "The products.")
    assert (recommend.idempotent, recommend.timeout_s) == (True, 60.0)
    assert (train.path, train.idempotent, train.timeout_s, train.concurrency) == ("/re-train", True, None, 1)
    assert (follow.kind, follow.timeout_s, follow.idempotent) == (EndpointKind.STREAM, None, False)
    assert service_of(ShopRecommender).on_start == ("warm",)
    assert service_of(ShopRecommender).on_stop == ("flush",)


def test_settings_are_the_constructors_parameters_but_not_its_handles() -> None:
    settings = service_of(ShopRecommender).spec().settings
    assert [(s.name, s.required) for s in settings] == [
        ("DATABASE_URL", True), ("TOKEN", True), ("K", False), ("TAGS", False), ("STORE", False),
    ]  # fmt: skip


def test_an_instance_is_made_from_the_environment() -> None:
    environ = {"DATABASE_URL": "db", "TOKEN": "t0ken", "K": "3", "TAGS": '["a"]', "STORE": '{"url": "u"}', "HOME": "/"}
    made = construct(service_of(ShopRecommender), environ)
    assert made.given == ("db", "t0ken", 3, ["a"], Store(url="u"))


def test_all_wrong_settings_are_named_at_once_and_no_value_is_shown() -> None:
    with pytest.raises(ConfigError) as error:
        construct(service_of(ShopRecommender), {"K": "hunter2", "TAGS": "hunter2", "STORE": '{"u": "hunter2"}'})
    assert [e["where"] for e in error.value.errors] == ["DATABASE_URL", "TOKEN", "K", "TAGS", "STORE"]
    assert "DATABASE_URL (str) is missing" in error.value.cause
    assert "hunter2" not in str(error.value.problem())


def test_what_the_constructor_raises_goes_through() -> None:
    @kaon.service
    class Failing:
        def __init__(self) -> None:
            raise OSError("no model")

        @kaon.endpoint
        def f(self) -> None: ...

    with pytest.raises(OSError, match="no model"):
        construct(service_of(Failing), {})


def test_a_subclass_inherits_endpoints_and_replaces_them() -> None:
    class Base:
        @kaon.endpoint
        def one(self) -> int:
            return 1

        @kaon.endpoint
        def two(self) -> int:
            return 2

    @kaon.service(name="derived")
    class Derived(Base):
        @kaon.endpoint(path="/uno")
        def one(self) -> int:
            return 11

    assert [e.spec.path for e in service_of(Derived).endpoints] == ["/uno", "/two"]
    with pytest.raises(ConfigError, match="is not a service"):
        service_of(Base)


def test_models_within_a_function_are_found() -> None:
    class Local(BaseModel):
        n: int

    @kaon.service
    class Uses:
        @kaon.endpoint
        def f(self, local: Local) -> Local:
            return local

    assert service_of(Uses).endpoints[0].signature.from_json(b'{"n": 1}') == {"local": Local(n=1)}


@pytest.mark.parametrize(
    ("attributes", "options", "expected"),
    [
        ({}, {}, "has no endpoint"),
        ({"f": kaon.endpoint(path="/a")(lambda self: 1), "g": kaon.endpoint(path="/a")(lambda self: 1)}, {}, None),
        ({"f": kaon.endpoint(path="/a")(lambda self: 1)}, {"name": "Not Good"}, "The name 'Not Good'"),
        ({"f": kaon.endpoint(path="/a")(lambda self: 1)}, {"mounts": {"ui": object()}}, "mounts 'ui'"),
        ({"f": kaon.endpoint(path="/a", hedge_s=0.1)(lambda self: 1)}, {}, "is not idempotent"),
        ({"f": kaon.endpoint(path="/a", retry=True)(lambda self: 1)}, {}, "is not idempotent"),
        ({"f": kaon.endpoint(path="/a", hedge_s=0.0, idempotent=True)(lambda self: 1)}, {}, "has hedge_s=0.0"),
        ({"f": kaon.endpoint(path="/a", hedge_s=9, timeout_s=5, method="GET")(lambda self: 1)}, {}, "has hedge_s=9"),
        ({"f": kaon.endpoint(path="/ui/a")(lambda self: 1)}, {"mounts": {"/ui": object()}}, "is under /ui"),
    ],
)
def test_a_class_that_cannot_be_served_is_refused_at_once(attributes: Any, options: Any, expected: str | None) -> None:
    if expected is None:
        attributes["f"].__name__, attributes["g"].__name__, expected = "f", "g", "both answer POST /a"
    with pytest.raises(ConfigError) as error:
        kaon.service(**options)(type("Bad", (), attributes))
    assert expected in error.value.cause


def test_a_call_that_broke_off_is_sent_again_only_where_the_endpoint_says_so() -> None:
    @kaon.service
    class Shop:
        @kaon.endpoint(method="GET")
        def look(self) -> int:
            return 1

        @kaon.endpoint(method="GET", retry=True)
        def find(self) -> int:
            return 1

        @kaon.endpoint(idempotent=True, retry=True)
        def similar(self) -> int:
            return 1

    assert {e.spec.name: e.spec.retry for e in service_of(Shop).endpoints} == {
        "look": False,
        "find": True,
        "similar": True,
    }


def test_an_idempotent_endpoint_may_be_hedged_and_none_is_unless_it_says_so() -> None:
    @kaon.service
    class Finder:
        @kaon.endpoint(idempotent=True, hedge_s=0.05)
        def find(self, text: str) -> str:
            return text

        @kaon.endpoint(method="GET")
        def plain(self) -> int:
            return 1

    assert {e.spec.name: e.spec.hedge_s for e in service_of(Finder).endpoints} == {"find": 0.05, "plain": None}


def test_marks_belong_on_methods_and_classes() -> None:
    for wrong in (lambda: kaon.endpoint(property(len)), lambda: kaon.service(len), lambda: kaon.on_start(1)):
        with pytest.raises(ConfigError):
            wrong()  # type: ignore[no-untyped-call]


def test_mounts_are_apps_or_make_them_from_the_instance() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    class Asgi:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    whole = Asgi()

    @kaon.service(mounts={"/a": app, "/b": whole, "/c": lambda instance: ("made", instance), "/d": lambda: "made"})
    class Mounts: ...

    instance = Mounts()
    assert service_of(Mounts).mounted(instance) == {"/a": app, "/b": whole, "/c": ("made", instance), "/d": "made"}


def test_a_websocket_is_recognised_by_its_parameter() -> None:
    @kaon.service
    class Chat:
        @kaon.endpoint(path="/talk")
        async def talk(self, socket: kaon.WebSocket, room: str) -> None: ...

    endpoint = service_of(Chat).endpoints[0]
    assert (endpoint.spec.kind, endpoint.spec.method) == (EndpointKind.WEBSOCKET, "GET")
    assert endpoint.signature.socket == "socket"
    assert endpoint.signature.from_query([("room", "a")]) == {"room": "a"}


def test_the_data_folder_is_the_deployments_or_one_beside_you(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAON_DATA_DIR", raising=False)
    assert kaon.data_dir() == tmp_path / ".kaon-data"
    monkeypatch.setenv("KAON_DATA_DIR", str(tmp_path / "volume"))
    assert kaon.data_dir().is_dir()


def test_the_objective_of_a_class_is_in_its_manifest() -> None:
    aim = kaon.Objective(latency_s=0.2, completion=0.999)

    @kaon.service(objective=aim)
    class Quick:
        @kaon.endpoint
        def answer(self) -> int:
            return 42

    assert service_of(Quick).spec().objective == aim
    assert service_of(ShopRecommender).spec().objective == kaon.Objective()


def test_what_is_no_objective_is_refused_at_import() -> None:
    with pytest.raises(ConfigError, match=r"The objective of `Slow` is float, not kaon.Objective"):

        @kaon.service(objective=0.2)  # type: ignore[call-overload]
        class Slow:
            @kaon.endpoint
            def answer(self) -> int:
                return 42


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"timeout_s": -100.0}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"concurrency": 0}, "concurrency"),
        ({"path": "/" + "a" * 600}, "path"),
    ],
)
def test_what_no_manifest_may_say_is_refused_where_it_is_written(options: dict[str, Any], field: str) -> None:
    class Odd:
        @kaon.endpoint(**options)
        def work(self) -> int:
            return 1

    with pytest.raises(ConfigError, match=field):
        kaon.service(Odd)


@kaon.service
class Reader:
    def __init__(self, user_model: kaon.Dataset, extra: kaon.Dataset | None = None) -> None:
        self.model, self.extra = user_model, extra

    @kaon.endpoint
    def name(self) -> str:
        return self.model.name


def test_a_dataset_is_a_setting_with_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).write_text(name)
    service = service_of(Reader)
    assert [(s.spec.name, s.spec.required, s.spec.type) for s in service.settings] == [
        ("USER_MODEL", True, "Dataset"),
        ("EXTRA", False, "Dataset"),
    ]
    local = construct(service, {"USER_MODEL": str(tmp_path)})
    assert (local.model.path, local.model.version, local.extra) == (tmp_path, 0, None)
    assert [str(path.relative_to(tmp_path)) for path in local.model] == ["a", "b", "sub/c"]
    mounted = construct(service, {"USER_MODEL": f"shop@3:{tmp_path}", "EXTRA": f"more@12:{tmp_path}"})
    assert (mounted.model.name, mounted.model.version, mounted.model.path) == ("shop", 3, tmp_path)
    assert kaon.Dataset.of_text(mounted.extra.text) == mounted.extra
    with pytest.raises(ConfigError, match=r"USER_MODEL \(Dataset\) is missing"):
        construct(service, {})
    with pytest.raises(ConfigError, match="There is no folder"):
        construct(service, {"USER_MODEL": str(tmp_path / "missing")})


@kaon.service(state="database")
class Ledger:
    def __init__(self, database_url: str) -> None:
        self.url = database_url

    @kaon.endpoint
    def total(self) -> int:
        return 0


def test_a_database_is_sqlite_in_the_service_s_folder_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAON_DATA_DIR", str(tmp_path))
    service = service_of(Ledger)
    assert service.spec().state == "database"
    assert construct(service, {}).url == f"sqlite:///{tmp_path}/state.db"
    assert construct(service, {"DATABASE_URL": "postgresql://db"}).url == "postgresql://db"
    assert runs_alone(service.spec(), set())
    assert not runs_alone(service.spec(), {"DATABASE_URL"})


def test_an_unknown_kind_of_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="state='memory'"):
        kaon.service(state="memory")(Ledger)  # type: ignore[call-overload]
