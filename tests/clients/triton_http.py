"""The Open Inference Protocol over REST, by Triton's HTTP clients. Arguments: the host's address."""

import asyncio
import sys

import numpy
import tritonclient.http as triton
import tritonclient.http.aio as aio
from report import Report, refused
from tensors import ROWS, TYPES, same

PROTOCOL = "Open Inference Protocol, REST"


def rows(binary, names=("x", "y")):
    inputs = []
    for name in names:
        tensor = triton.InferInput(name, list(ROWS.shape), "FP32")
        tensor.set_data_from_numpy(ROWS, binary_data=binary)
        inputs.append(tensor)
    return inputs


def wanted(name, **how):
    return [triton.InferRequestedOutput(name, **how)]


def every_type(client, binary_in, binary_out):
    inputs, outputs = [], []
    for datatype, values in TYPES.items():
        tensor = triton.InferInput(datatype.lower(), list(values.shape), datatype)
        # The client writes these in no other way.
        binary = datatype in ("FP16", "BF16")
        tensor.set_data_from_numpy(values, binary_data=binary_in or binary)
        inputs.append(tensor)
        outputs += wanted(f"{datatype.lower()}_out", binary_data=binary_out or binary)
    result = client.infer("types", inputs, outputs=outputs)
    for datatype, values in TYPES.items():
        same(result.as_numpy(f"{datatype.lower()}_out"), values)


def main(address):
    client = triton.InferenceServerClient(address, concurrency=4)
    with Report("tritonclient") as report:
        works = lambda feature: report.works(PROTOCOL, feature)
        with works("server and model: live, ready, metadata"):
            assert client.is_server_live() and client.is_server_ready()
            assert client.is_model_ready("add") and client.is_model_ready("add", "1")
            assert not client.is_model_ready("nobody")
            assert client.get_server_metadata()["name"] == "torpor"
            metadata = client.get_model_metadata("add")
            assert metadata["versions"] == ["1"] and metadata["outputs"][0]["datatype"] == "FP32", metadata
        with works("model configuration"):
            config = client.get_model_config("add")
            assert [entry["data_type"] for entry in config["input"]] == ["TYPE_FP32"] * 2, config
        for binary_in in (False, True):
            for binary_out in (False, True):
                words = {False: "JSON", True: "binary"}
                with works(f"every element type, {words[binary_in]} in, {words[binary_out]} out"):
                    every_type(client, binary_in, binary_out)
        with works("JSON and binary tensors in one request"):
            inputs = [rows(True)[0], rows(False)[1]]
            same(client.infer("add", inputs).as_numpy("z"), ROWS + ROWS)
        with works("id, version, parameters, requested outputs"):
            result = client.infer(
                "add", rows(True), model_version="1", outputs=wanted("z"), request_id="7", parameters={"why": "not"}
            )
            assert result.get_response()["id"] == "7" and result.get_response()["model_version"] == "1"
            same(result.as_numpy("z"), ROWS + ROWS)
        for algorithm in ("gzip", "deflate"):
            with works(f"requests and answers by {algorithm}"):
                result = client.infer(
                    "add",
                    rows(True),
                    request_compression_algorithm=algorithm,
                    response_compression_algorithm=algorithm,
                )
                same(result.as_numpy("z"), ROWS + ROWS)
        with works("requests that do not wait for each other"):
            under_way = [client.async_infer("add", rows(True)) for _ in range(16)]
            for request in under_way:
                same(request.get_result().as_numpy("z"), ROWS + ROWS)
        with works("classification"):
            flower = triton.InferInput("lengths", [1, 4], "FP32")
            flower.set_data_from_numpy(numpy.array([[5.1, 3.5, 1.4, 0.2]], numpy.float32))
            result = client.infer("species", [flower], outputs=wanted("scores", class_count=2))
            first, second = (entry.decode().split(":") for entry in result.as_numpy("scores")[0])
            assert first[2] == "setosa" and float(first[0]) >= float(second[0]), (first, second)
        with works("statistics"):
            statistics = client.get_inference_statistics("add")["model_stats"][0]
            assert statistics["name"] == "add" and int(statistics["inference_count"]) > 16, statistics
        with works("model repository: index, load, unload"):
            assert "add" in [entry["name"] for entry in client.get_model_repository_index()]
            client.unload_model("add")
            assert not client.is_model_ready("add")
            refused(lambda: client.infer("add", rows(True)), "add")
            client.load_model("add")
            assert client.is_model_ready("add")
            same(client.infer("add", rows(True)).as_numpy("z"), ROWS + ROWS)
        with works("trace and log settings are told"):
            assert isinstance(client.get_trace_settings("add"), dict)
            assert isinstance(client.get_log_settings(), dict)
        with works("errors name what is wrong, and the connection stays usable"):
            refused(lambda: client.infer("nobody", rows(True)), "nobody")
            refused(lambda: client.infer("add", rows(True), model_version="99"), "99")
            refused(lambda: client.infer("add", rows(True, ("x", "w"))), "`w`")
            refused(lambda: client.infer("add", rows(True, ("x",))), "`y`")
            wrong = triton.InferInput("x", [2, 4], "INT32")
            wrong.set_data_from_numpy(ROWS.astype(numpy.int32))
            refused(lambda: client.infer("add", [wrong, rows(True)[1]]), "`x`", "FP32")
            same(client.infer("add", rows(True)).as_numpy("z"), ROWS + ROWS)
        with report.works(PROTOCOL, "the client for asyncio"):
            asyncio.run(at_once(address))


async def at_once(address):
    async with aio.InferenceServerClient(address) as client:
        assert await client.is_model_ready("add")
        for result in await asyncio.gather(*(client.infer("add", rows(True)) for _ in range(16))):
            same(result.as_numpy("z"), ROWS + ROWS)


main(sys.argv[1])
