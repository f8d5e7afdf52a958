"""Prints the objects and the notes of a release as JSON: render.py VALUES_FILE (JSON)."""

import json
import pathlib
import sys

from release import Cluster

if __name__ == "__main__":
    with Cluster("1.37") as cluster:
        release = cluster.install(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    print(json.dumps({"objects": release.objects, "notes": release.notes}))
