"""A server of LitServe that reads and writes the protocol's envelope, with a worker for each processor, as its documentation
advises for processors."""

import os

import litserve
import numpy as np
import onnxruntime as ort

NAME = os.environ["PEER_NAME"]
NUMPY = {"FP32": np.float32, "INT32": np.int32}
DATATYPES = {np.dtype(kind): name for name, kind in NUMPY.items()}


class Model(litserve.LitAPI):
    def setup(self, device: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def decode_request(self, request: dict) -> dict[str, np.ndarray]:
        inputs = request["inputs"]
        return {one["name"]: np.array(one["data"], NUMPY[one["datatype"]]).reshape(one["shape"]) for one in inputs}

    def predict(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(self.names, arrays)

    def encode_response(self, arrays: list[np.ndarray]) -> dict:
        outputs = [
            {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype], "data": array.ravel().tolist()}
            for name, array in zip(self.names, arrays)
        ]
        return {"model_name": NAME, "outputs": outputs}


if __name__ == "__main__":
    api = Model(api_path=f"/v2/models/{NAME}/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=os.cpu_count())
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), log_level="warning", generate_client_file=False)
