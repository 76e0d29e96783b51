"""The same route as somebody has it who has measured: no models of pydantic, JSON by orjson, no hop to a thread, and one process
with one thread of computing for each processor."""

import os

import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response

NAME = os.environ["PEER_NAME"]
NUMPY = {"FP32": np.float32, "INT32": np.int32}
DATATYPES = {np.dtype(kind): name for name, kind in NUMPY.items()}

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
app = FastAPI()


def tensor(name: str, array: np.ndarray) -> dict:
    return {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype], "data": array.ravel()}


@app.post(f"/v2/models/{NAME}/infer")
async def infer(request: Request) -> Response:
    inputs = orjson.loads(await request.body())["inputs"]
    arrays = {one["name"]: np.array(one["data"], NUMPY[one["datatype"]]).reshape(one["shape"]) for one in inputs}
    outputs = [tensor(name, array) for name, array in zip(names, session.run(names, arrays))]
    answer = {"model_name": NAME, "outputs": outputs}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
