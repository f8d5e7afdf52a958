"""Puts the columns that the behaviour suite wrote into the table of a document.

    behaviour.py DIRECTORY DOCUMENT
"""

import pathlib
import sys

PLACES = ["fs", "s3-ceph", "s3-moto", "gcs", "gcs-unftp", "azblob", "memory"]
MARK = "<!-- behaviour -->"

directory, document = map(pathlib.Path, sys.argv[1:])
# A backend whose rows were not all right has written nothing.
PLACES = [place for place in PLACES if (directory / place).exists()]
columns = {}
what = {}
for place in PLACES:
    rows = [line.split("\t") for line in (directory / place).read_text().splitlines()]
    columns[place] = {row: cell for row, _, cell in rows}
    what |= {row: text for row, text, _ in rows}
lines = ["| row | what | " + " | ".join(PLACES) + " |", "|" + " --- |" * (len(PLACES) + 2)]
for row, text in what.items():
    cells = [columns[place][row] for place in PLACES]
    lines.append("| " + " | ".join([row, text, *cells]) + " |")
before, _, after = document.read_text().split(MARK)
document.write_text(before + MARK + "\n\n" + "\n".join(lines) + "\n\n" + MARK + after)
