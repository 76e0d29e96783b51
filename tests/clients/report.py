"""What a program of this folder has seen: a line of JSON for each thing that works, and the traceback of each that does not."""

import contextlib
import json
import sys
import traceback
from importlib.metadata import version


class Report:
    """Collects what works. Use as a context manager; leaving it ends the program."""

    def __init__(self, client, package=None):
        self.client = f"{client} {version(package or client)}"
        self.failed = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if error[0] is None:
            sys.exit(1 if self.failed else 0)

    @contextlib.contextmanager
    def works(self, protocol, feature):
        """What is done inside shows that `feature` of `protocol` works."""
        try:
            yield
        except Exception:
            self.failed = True
            print(f"{protocol}, {feature}, by {self.client}:", file=sys.stderr)
            traceback.print_exc()
        else:
            print(json.dumps([protocol, feature, self.client]))


def refused(call, *texts):
    """Runs `call`, which must fail, and returns the error; its text must hold all of `texts`."""
    try:
        answer = call()
    except Exception as error:
        for text in texts:
            assert text in str(error), f"{text!r} is not in {error}"
        return error
    raise AssertionError(f"this was to be refused, but answered {answer}")
