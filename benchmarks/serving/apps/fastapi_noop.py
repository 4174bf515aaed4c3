"""The same on FastAPI, on uvicorn with uvloop and httptools."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    text: str
    n: int = 1


@app.post("/noop")
async def noop(item: Item) -> Item:
    return item


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
