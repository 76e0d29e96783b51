"""OpenAI's embeddings, by OpenAI's own client. Arguments: the host's address."""

import sys

from openai import OpenAI
from report import Report, refused

PROTOCOL = "OpenAI"


def main(address):
    client = OpenAI(base_url=f"http://{address}/v1", api_key="nobody looks at it", max_retries=0)
    with Report("openai") as report:
        works = lambda feature: report.works(PROTOCOL, feature)
        with works("models"):
            assert "embed" in [model.id for model in client.models.list()]
            assert client.models.retrieve("embed").object == "model"
        with works("embeddings, by default in base64"):
            one = client.embeddings.create(model="embed", input="a cat").data[0].embedding
            assert len(one) == 384 and abs(sum(x * x for x in one) - 1) < 1e-4
        with works("embeddings as numbers, of several texts"):
            both = client.embeddings.create(model="embed", input=["a cat", "a dog"], encoding_format="float").data
            assert [entry.index for entry in both] == [0, 1]
            assert max(abs(a - b) for a, b in zip(both[0].embedding, one)) < 1e-6
        with works("errors name what is wrong"):
            refused(lambda: client.embeddings.create(model="nobody", input="a"), "404", "nobody")
            refused(lambda: client.embeddings.create(model="add", input="a"), "400", "add")
            refused(lambda: client.embeddings.create(model="embed", input=[]), "400", "input")
            refused(lambda: client.embeddings.create(model="embed", input="a", dimensions=7), "400", "dimensions")


main(sys.argv[1])
