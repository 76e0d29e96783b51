"""The Open Inference Protocol over gRPC, by Triton's gRPC clients. Arguments: the host's address."""

import asyncio
import queue
import sys

import numpy
import tritonclient.grpc as triton
import tritonclient.grpc.aio as aio
from report import Report, refused
from tensors import ROWS, TYPES, same

PROTOCOL = "Open Inference Protocol, gRPC"


def rows(names=("x", "y")):
    inputs = []
    for name in names:
        tensor = triton.InferInput(name, list(ROWS.shape), "FP32")
        tensor.set_data_from_numpy(ROWS)
        inputs.append(tensor)
    return inputs


def wanted(name, **how):
    return [triton.InferRequestedOutput(name, **how)]


def stream(client):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for index in range(8):
        # The third asks for what is not there, and the others must not notice.
        names = ("x", "w") if index == 2 else ("x", "y")
        client.async_stream_infer("add", rows(names), request_id=str(index))
    seen = [answers.get(timeout=30) for _ in range(8)]
    client.stop_stream()
    assert sum(error is not None for _, error in seen) == 1, seen
    assert "`w`" in str(next(error for _, error in seen if error is not None))
    ids = {result.get_response().id for result, error in seen if error is None}
    assert ids == {str(index) for index in range(8)} - {"2"}, ids
    for result, error in seen:
        if error is None:
            same(result.as_numpy("z"), ROWS + ROWS)


def main(address):
    client = triton.InferenceServerClient(address)
    with Report("tritonclient") as report:
        works = lambda feature: report.works(PROTOCOL, feature)
        with works("server and model: live, ready, metadata"):
            assert client.is_server_live() and client.is_server_ready()
            assert client.is_model_ready("add") and client.is_model_ready("add", "1")
            assert not client.is_model_ready("nobody")
            assert client.get_server_metadata().name == "torpor"
            metadata = client.get_model_metadata("add")
            assert list(metadata.versions) == ["1"] and metadata.outputs[0].datatype == "FP32", metadata
        with works("model configuration"):
            config = client.get_model_config("add").config
            assert [entry.name for entry in config.input] == ["x", "y"], config
        with works("every element type"):
            inputs = []
            for datatype, values in TYPES.items():
                tensor = triton.InferInput(datatype.lower(), list(values.shape), datatype)
                tensor.set_data_from_numpy(values)
                inputs.append(tensor)
            result = client.infer("types", inputs)
            for datatype, values in TYPES.items():
                same(result.as_numpy(f"{datatype.lower()}_out"), values)
        with works("id, version, parameters, requested outputs"):
            result = client.infer(
                "add", rows(), model_version="1", outputs=wanted("z"), request_id="7", parameters={"why": "not"}
            )
            assert result.get_response().id == "7" and result.get_response().model_version == "1"
            same(result.as_numpy("z"), ROWS + ROWS)
        for algorithm in ("gzip", "deflate"):
            with works(f"requests and answers by {algorithm}"):
                same(client.infer("add", rows(), compression_algorithm=algorithm).as_numpy("z"), ROWS + ROWS)
        with works("requests that do not wait for each other"):
            answers = queue.Queue()
            for _ in range(16):
                client.async_infer("add", rows(), lambda result, error: answers.put((result, error)))
            for _ in range(16):
                result, error = answers.get(timeout=30)
                assert error is None, error
                same(result.as_numpy("z"), ROWS + ROWS)
        with works("a stream of requests, in which one fails alone"):
            stream(client)
        with works("classification"):
            flower = triton.InferInput("lengths", [1, 4], "FP32")
            flower.set_data_from_numpy(numpy.array([[5.1, 3.5, 1.4, 0.2]], numpy.float32))
            result = client.infer("species", [flower], outputs=wanted("scores", class_count=2))
            first, second = (entry.decode().split(":") for entry in result.as_numpy("scores")[0])
            assert first[2] == "setosa" and float(first[0]) >= float(second[0]), (first, second)
        with works("statistics"):
            statistics = client.get_inference_statistics("add").model_stats[0]
            assert statistics.name == "add" and statistics.inference_count > 16, statistics
        with works("model repository: index, load, unload"):
            assert "add" in [entry.name for entry in client.get_model_repository_index().models]
            client.unload_model("add")
            assert not client.is_model_ready("add")
            refused(lambda: client.infer("add", rows()), "add")
            client.load_model("add")
            assert client.is_model_ready("add")
            same(client.infer("add", rows()).as_numpy("z"), ROWS + ROWS)
        with works("trace and log settings are told"):
            client.get_trace_settings("add")
            client.get_log_settings()
        with works("errors name what is wrong, and the connection stays usable"):
            refused(lambda: client.infer("nobody", rows()), "NOT_FOUND", "nobody")
            refused(lambda: client.infer("add", rows(), model_version="99"), "NOT_FOUND", "99")
            refused(lambda: client.infer("add", rows(("x", "w"))), "INVALID_ARGUMENT", "`w`")
            refused(lambda: client.infer("add", rows(("x",))), "INVALID_ARGUMENT", "`y`")
            wrong = triton.InferInput("x", [2, 4], "INT32")
            wrong.set_data_from_numpy(ROWS.astype(numpy.int32))
            refused(lambda: client.infer("add", [wrong, rows()[1]]), "INVALID_ARGUMENT", "`x`", "FP32")
            same(client.infer("add", rows()).as_numpy("z"), ROWS + ROWS)
        with works("a client's own time-out"):
            rounds = triton.InferInput("rounds", [1], "INT64")
            rounds.set_data_from_numpy(numpy.array([2**40]))
            refused(lambda: client.infer("slow", [rounds], client_timeout=0.5), "DEADLINE_EXCEEDED")
        with works("the client for asyncio"):
            asyncio.run(at_once(address))


async def at_once(address):
    async with aio.InferenceServerClient(address) as client:
        assert await client.is_model_ready("add")
        for result in await asyncio.gather(*(client.infer("add", rows()) for _ in range(16))):
            same(result.as_numpy("z"), ROWS + ROWS)


main(sys.argv[1])
