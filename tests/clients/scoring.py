"""MLflow's scoring protocol, by MLflow's own client. Arguments: the host's address; `add` is its model by default."""

import json
import sys

import numpy
import pandas
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from report import Report, refused
from tensors import ROWS

PROTOCOL = "MLflow scoring"


def inputs(**tensors):
    # The client takes no tensors of several names, but any text.
    return json.dumps({"inputs": {name: tensor.tolist() for name, tensor in tensors.items()}})


def main(address):
    host, port = address.split(":")
    client = ScoringServerClient(host, port)
    with Report("mlflow", "mlflow-skinny") as report:
        works = lambda feature: report.works(PROTOCOL, feature)
        with works("ping and version"):
            client.ping()
            assert client.get_version()
        with works("named tensors (inputs)"):
            answer = client.invoke(inputs(x=ROWS, y=ROWS))
            assert answer["predictions"] == (ROWS + ROWS).tolist(), answer
        with works("a dataframe"):
            # Each column holds one row of a tensor in a cell.
            frame = pandas.DataFrame({"x": ROWS.tolist(), "y": ROWS.tolist()})
            answer = client.invoke(frame)
            assert answer["predictions"] == (ROWS + ROWS).tolist(), answer
        with works("errors name what is wrong"):
            refused(lambda: client.invoke(inputs(x=ROWS)), "400", "`y`")
            refused(lambda: client.invoke(inputs(x=numpy.array([["a"]]), y=ROWS)), "400", "`x`")


main(sys.argv[1])
