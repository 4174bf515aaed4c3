"""The same on LitServe. Arguments: the port, and `/embed` or `/batched`."""

import sys
import time

import litserve
from minilm import MiniLM
from pydantic import BaseModel


class Texts(BaseModel):
    texts: list[str]


class Batched(litserve.LitAPI):
    def decode_request(self, request: Texts):
        return request.texts[0]

    def batch(self, inputs):
        return list(inputs)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return [output]


class Embedder(Batched):
    def setup(self, device):
        self.model = MiniLM()

    def predict(self, texts):
        return self.model.embed(texts)


class Device(Batched):
    def setup(self, device):
        pass

    def predict(self, texts):
        time.sleep(0.004)
        return [len(text) for text in texts]


if __name__ == "__main__":
    port, path = int(sys.argv[1]), sys.argv[2]
    api = {"/embed": Embedder, "/batched": Device}[path](max_batch_size=32, batch_timeout=0.002, api_path=path)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
