"""The infer route of the Open Inference Protocol as a page of FastAPI's guide would have it: models of pydantic, and a plain
function, which the framework runs on a thread."""

import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

NAME = os.environ["PEER_NAME"]
NUMPY = {"FP32": np.float32, "INT32": np.int32}
DATATYPES = {np.dtype(kind): name for name, kind in NUMPY.items()}

session = ort.InferenceSession(os.environ["PEER_MODEL"], providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Tensor]


class Response(BaseModel):
    model_name: str
    outputs: list[Tensor]


@app.post(f"/v2/models/{NAME}/infer")
def infer(request: Request) -> Response:
    arrays = {tensor.name: np.array(tensor.data, NUMPY[tensor.datatype]).reshape(tensor.shape) for tensor in request.inputs}
    outputs = [
        Tensor(name=name, shape=list(array.shape), datatype=DATATYPES[array.dtype], data=array.ravel().tolist())
        for name, array in zip(names, session.run(names, arrays))
    ]
    return Response(model_name=NAME, outputs=outputs)
