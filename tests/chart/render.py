"""Prints the objects of a release as JSON: render.py VALUES_FILE (JSON)."""

import json
import pathlib
import sys

from release import Cluster

if __name__ == "__main__":
    with Cluster("1.37") as cluster:
        print(json.dumps(cluster.install(json.loads(pathlib.Path(sys.argv[1]).read_text())).objects))
