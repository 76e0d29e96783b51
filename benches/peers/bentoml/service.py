"""A service of BentoML, with the protocol's envelope as its models of pydantic, and a worker for each processor."""

import os

import bentoml
import numpy as np
import onnxruntime as ort
from pydantic import BaseModel

NAME = os.environ["PEER_NAME"]
NUMPY = {"FP32": np.float32, "INT32": np.int32}
DATATYPES = {np.dtype(kind): name for name, kind in NUMPY.items()}


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Response(BaseModel):
    model_name: str
    outputs: list[Tensor]


@bentoml.service(workers="cpu_count", logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    @bentoml.api(route=f"/v2/models/{NAME}/infer")
    def infer(self, inputs: list[Tensor]) -> Response:
        arrays = {one.name: np.array(one.data, NUMPY[one.datatype]).reshape(one.shape) for one in inputs}
        outputs = [
            Tensor(name=name, shape=list(array.shape), datatype=DATATYPES[array.dtype], data=array.ravel().tolist())
            for name, array in zip(self.names, self.session.run(self.names, arrays))
        ]
        return Response(model_name=NAME, outputs=outputs)
