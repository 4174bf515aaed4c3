"""Jobs on a dataset, and a service that submits one of them."""

import json
import os
import time

import kaon


@kaon.job
def clean(raw: kaon.Dataset, rows: kaon.Output, strict: bool = False) -> int:
    """Drop broken rows."""
    lines = (raw.path / "rows.txt").read_text().splitlines()
    good = [line for line in lines if line.isdecimal()]
    if strict and len(good) < len(lines):
        raise ValueError(f"{len(lines) - len(good)} rows are broken")
    (rows.path / "rows.txt").write_text("\n".join(good))
    return len(good)


@kaon.job(retries=1)
def train(rows: kaon.Dataset, model: kaon.Output, epochs: int = 2) -> dict[str, float]:
    """Sum up the rows."""
    total = sum(int(line) for line in (rows.path / "rows.txt").read_text().split())
    for epoch in range(epochs):
        kaon.progress((epoch + 1) / epochs, f"epoch {epoch + 1}", loss=1 / (epoch + 1))
    (model.path / "model.json").write_text(json.dumps({"total": total, "rows": f"{rows.name}@{rows.version}"}))
    return {"total": total}


@kaon.job(retries=50)
def slow(seconds: float, seen: str) -> str:
    """Write each start to a file."""
    with open(seen, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return seen


@kaon.service
class Rows:
    """Answers 202 with an operation, which a client follows."""

    @kaon.endpoint
    def submit(self, response: kaon.Response, epochs: int = 1) -> dict[str, str]:
        handle = kaon.submit(train, rows="rows@latest", model="rows-model", epochs=epochs)
        response.status_code = 202
        return {"operation": handle.name}

    @kaon.endpoint(method="GET", path="/operations/{name}")
    def operation(self, name: str) -> dict[str, str]:
        status = kaon.submitted(name).status()
        return {"state": status.state, "text": status.progress.text}
