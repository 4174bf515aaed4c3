"""The same on LitServe."""

import sys

import litserve
from pydantic import BaseModel


class Item(BaseModel):
    text: str
    n: int = 1


class Noop(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request: Item):
        return request

    def predict(self, item):
        return item

    def encode_response(self, output) -> Item:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Noop(api_path="/noop"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning", generate_client_file=False
    )
