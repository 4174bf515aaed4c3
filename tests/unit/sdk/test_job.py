"""`@kaon.job`: what is compiled where a function is defined, and the function as tests call it."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import kaon
from kaon.errors import BadAnswer, ConfigError, InvalidInput
from kaon.sdk.job import Job, job_of
from kaon.sdk.progress import ProgressReport, receive
from kaon.types.job import JobDeclaration


class Metrics(BaseModel):
    ndcg: float


@kaon.job(requirements=["scikit-learn"], timeout_s=60, retries=2)
def train_model(
    purchases: kaon.Dataset, model: kaon.Output, before: kaon.Dataset | None = None, epochs: int = 5
) -> Metrics:
    """Train a model.

    It takes long.
    """
    for epoch in range(epochs):
        kaon.progress((epoch + 1) / epochs, f"epoch {epoch + 1}", loss=1 / (epoch + 1))
    (model.path / "weights.txt").write_text((purchases.path / "rows.csv").read_text())
    return Metrics(ndcg=0.5)


def declared(function: Any) -> JobDeclaration:
    return job_of(function).declaration


def test_the_declaration_holds_inputs_outputs_and_a_schema_of_the_rest() -> None:
    found = declared(train_model)
    assert (found.name, found.summary, found.timeout_s, found.retries) == ("train-model", "Train a model.", 60, 2)
    assert found.entry == f"{__name__}:train_model"
    assert (found.inputs, found.optional_inputs, found.outputs) == (("purchases", "before"), ("before",), ("model",))
    assert found.parameters["properties"] == {"epochs": {"title": "Epochs", "type": "integer", "default": 5}}
    assert found.parameters["additionalProperties"] is False
    assert found.result["properties"]["ndcg"]["type"] == "number"
    assert job_of(train_model).requirements == ("scikit-learn",)


def test_the_function_is_called_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2\n")
    output = kaon.Output.local(tmp_path / "model")
    result = train_model(purchases=kaon.Dataset.local(tmp_path / "data"), model=output, epochs=2)
    assert result == Metrics(ndcg=0.5)
    assert (tmp_path / "model" / "weights.txt").read_text() == "1,2\n"
    assert output.name == "model"


def test_a_local_dataset_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no folder"):
        kaon.Dataset.local(tmp_path / "missing")


def test_a_schema_holds_the_definitions_that_it_refers_to() -> None:
    class Options(BaseModel):
        depth: int
        within: Options | None = None

    @kaon.job
    def fit(options: Options, kind: Literal["a", "b"] = "a") -> None: ...

    found = declared(fit).parameters
    assert found["properties"]["options"] == {"$ref": "#/$defs/Options"}
    assert found["$defs"]["Options"]["properties"]["depth"]["type"] == "integer"
    assert found["required"] == ["options"]


def test_parameters_are_read_as_those_of_an_endpoint() -> None:
    signature = job_of(train_model).signature
    assert signature.from_json(b'{"epochs": 3}') == {"epochs": 3}
    with pytest.raises(InvalidInput, match=r"body\.epochs"):
        signature.from_json(b'{"epochs": "many"}')
    with pytest.raises(InvalidInput, match="is not a parameter"):
        signature.from_json(b'{"epoch": 3}')
    assert signature.to_json(Metrics(ndcg=1)) == b'{"ndcg":1.0}'
    with pytest.raises(BadAnswer):
        signature.to_json("good")


def test_a_dataclass_is_a_result() -> None:
    @dataclasses.dataclass
    class Found:
        rows: int

    @kaon.job
    async def count() -> Found:
        return Found(3)

    assert job_of(count).signature.to_json(Found(3)) == b'{"rows":3}'


def test_a_method_of_a_service_is_a_job() -> None:
    @kaon.service(name="shop")
    class Shop:
        def __init__(self, k: int = 10) -> None:
            self.k = k

        @kaon.job(name="count")
        def count_all(self, times: int = 1) -> int:
            return self.k * times

    found: Job = job_of(Shop.count_all)
    assert found.is_method
    assert found.declaration.name == "count"
    assert found.declaration.parameters["properties"].keys() == {"times"}
    assert found.entry_class.endswith("Shop")
    assert Shop(3).count_all(2) == 6


def test_a_handle_in_a_default_is_no_parameter_and_is_declared() -> None:
    @kaon.job(uses=("other",))
    def clean(cleaner: Any = kaon.use("cleaner"), rows: int = 1) -> None: ...  # noqa: B008

    assert declared(clean).uses == ("other", "cleaner")
    assert declared(clean).parameters["properties"].keys() == {"rows"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"timeout_s": -1}, "timeout_s=-1"),
        ({"retries": 101}, "retries=101"),
        ({"once": True, "retries": 1}, "once=True and retries=1"),
        ({"name": "No Name"}, "The name 'No Name'"),
        ({"uses": ("No Name",)}, "uses 'No Name'"),
    ],
)
def test_wrong_arguments_are_refused_where_the_job_is_defined(arguments: dict[str, Any], text: str) -> None:
    def count() -> None: ...

    with pytest.raises(ConfigError, match=text) as raised:
        kaon.job(**arguments)(count)
    assert raised.value.hint


def test_wrong_parameters_are_refused_where_the_job_is_defined() -> None:
    def with_request(request: kaon.Request) -> None: ...
    def with_default(model: kaon.Output = kaon.Output(Path())) -> None: ...  # noqa: B008
    def with_union(data: kaon.Dataset | int) -> None: ...
    def with_stars(*rows: int) -> None: ...
    def with_object(thing: threading.Thread) -> None: ...
    def yields() -> Any:
        yield 1

    for function in (with_request, with_default, with_union, with_stars, with_object, yields):
        with pytest.raises(ConfigError) as raised:
            kaon.job(function)
        assert function.__name__ in raised.value.cause
        assert raised.value.hint
    with pytest.raises(ConfigError, match="not on a function"):
        kaon.job(Metrics)
    with pytest.raises(ConfigError, match="is not a job"):
        job_of(with_stars)


def test_progress_is_numbered_and_bounded_and_checked() -> None:
    reports: list[ProgressReport] = []
    receive(reports.append)
    try:
        kaon.progress(0.5, "x" * 1000, loss=0.25, accuracy=1)
        kaon.progress(7, loss=float("nan"))
        kaon.progress(text="saving")
        for wrong in ({"fraction": "half"}, {"loss": "low"}, {"verlustgröße": 1.0}):
            with pytest.raises(InvalidInput):
                kaon.progress(**wrong)  # type: ignore[arg-type]
    finally:
        receive(None)
    kaon.progress(1.0)
    assert [report.step for report in reports] == [1, 2, 3]
    assert (reports[0].fraction, len(reports[0].text), reports[0].values) == (0.5, 500, {"loss": 0.25, "accuracy": 1.0})
    assert (reports[1].fraction, reports[1].values) == (1.0, {})
    assert (reports[2].fraction, reports[2].text) == (None, "saving")


def test_progress_may_come_from_many_threads() -> None:
    reports: list[ProgressReport] = []
    receive(reports.append)
    try:
        threads = [threading.Thread(target=lambda: [kaon.progress(0.1) for _ in range(100)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        receive(None)
    assert [report.step for report in reports] == list(range(1, 801))
