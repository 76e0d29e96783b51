"""Prints the requirements, with hashes, of what a report of pip's says it would install."""

import json
import sys

with open(sys.argv[1]) as file:
    packages = json.load(file)["install"]
for package in sorted(packages, key=lambda package: package["metadata"]["name"].lower().replace("_", "-")):
    metadata = package["metadata"]
    sha256 = package["download_info"]["archive_info"]["hashes"]["sha256"]
    name = metadata["name"].lower().replace("_", "-")
    print(f"{name}=={metadata['version']} --hash=sha256:{sha256}")
