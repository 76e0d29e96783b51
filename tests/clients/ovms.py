"""TF Serving's REST and gRPC, by OpenVINO Model Server's client. Arguments: the host's address."""

import sys

import numpy
from ovmsclient import make_grpc_client, make_http_client
from report import Report, refused
from tensors import ROWS, same


def described(metadata):
    """The version, the shape of the input `x` and the type of the output `z`."""
    if "model_spec" in metadata:
        # TF Serving's own JSON, which the client gives as it is; it makes more only of its own server's.
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        shape = [int(dim["size"]) for dim in signature["inputs"]["x"]["tensor_shape"]["dim"]]
        return int(metadata["model_spec"]["version"]), shape, signature["outputs"]["z"]["dtype"]
    return metadata["model_version"], list(metadata["inputs"]["x"]["shape"]), metadata["outputs"]["z"]["dtype"]


def main(address):
    with Report("ovmsclient") as report:
        for protocol, client in [
            ("TF Serving, REST", make_http_client(address)),
            ("TF Serving, gRPC", make_grpc_client(address)),
        ]:
            works = lambda feature: report.works(protocol, feature)
            with works("status of a model"):
                status = client.get_model_status("add")
                assert status[1]["state"] == "AVAILABLE", status
            with works("metadata of a model"):
                assert described(client.get_model_metadata("add")) == (1, [-1, 4], "DT_FLOAT")
            with works("predict"):
                same(client.predict({"x": ROWS, "y": ROWS}, "add"), ROWS + ROWS)
                same(client.predict({"x": ROWS, "y": ROWS}, "add", 1), ROWS + ROWS)
            with works("texts in, numbers out"):
                answer = client.predict({"text": [b"a cat", b"a kitten"]}, "embed")
                assert answer.shape == (2, 384), answer.shape
            with works("errors name what is wrong, and the connection stays usable"):
                refused(lambda: client.predict({"x": ROWS, "y": ROWS}, "nobody"), "nobody")
                refused(lambda: client.predict({"x": ROWS, "y": ROWS}, "add", 99), "99")
                refused(lambda: client.predict({"x": ROWS, "w": ROWS}, "add"), "`w`")
                refused(lambda: client.predict({"x": ROWS}, "add"), "`y`")
                refused(lambda: client.predict({"x": ROWS[:, :3], "y": ROWS}, "add"), "`x`")
                same(client.predict({"x": ROWS, "y": ROWS}, "add"), ROWS + ROWS)


main(sys.argv[1])
