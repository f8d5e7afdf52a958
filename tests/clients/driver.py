"""Runs every FTPS client through the same tour against a running causeway and judges what is stored.

    driver.py [--quick] [--only NAME,...] [--mode MODE] [--tls VERSION] [--resumption MODE,...]
              [--write-docs] [--uploads] [--jobs N] [--keep]

Called by ./tests/matrix, which installs the clients and sets CAUSEWAY_BIN. One cell is one client in
one mode with one TLS version: one process, `programs/<client>`, that walks the steps below and prints a
line `STEP ok`, `STEP fail WHY` or `STEP none WHY` (the client cannot do it) for each. The program is not
believed: content, names and times are read from the server's local directory. Every result that is not
`ok` must be in `expected.toml` with its reason, and every line there must still be true.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from cells import CLIENTS, LENIENT, MODES, STEPS, VERSIONS, Cell
from server import Server, hash_password, knows_resumption
from tour import Files, Runner
from verdict import Expected, report_uploads, table, write_docs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main():
    options = arguments()
    binary = os.environ["CAUSEWAY_BIN"]
    python = os.environ.get("MATRIX_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory(prefix="causeway-matrix-") as directory:
        directory = Path(directory)
        known = knows_resumption(binary, directory)
        if options.resumption:
            resumptions = options.resumption.split(",")
            if not known:
                sys.exit("this causeway does not know the key `resumption`")
        elif known and not (options.quick or options.uploads):
            resumptions = ["enabled", "enforced"]
        else:
            resumptions = ["enabled" if known else ""]
        cells = list(choose(options, resumptions))
        if not cells:
            sys.exit("nothing to run")
        started = time.monotonic()
        run_cells(options, binary, python, directory, cells)
    print(f"{len(cells)} cells in {time.monotonic() - started:.0f} s")
    if options.uploads:
        sys.exit(report_uploads(cells))
    expected = Expected(HERE / "expected.toml")
    surprises = [line for cell in cells for line in expected.surprises(cell)]
    text = table(cells, expected)
    print(text)
    whole = not (options.only or options.quick or options.mode or options.tls or options.resumption)
    if whole:
        for number, entry in enumerate(expected.entries):
            if number not in expected.used:
                surprises.append(f"expected.toml: never met: {entry}")
    if options.write_docs:
        if not whole:
            sys.exit("--write-docs needs the whole matrix")
        write_docs(ROOT / "docs/clients.md", text)
    for line in surprises:
        print("NOT AS EXPECTED:", line)
    print("matrix:", "failed" if surprises else "as expected")
    sys.exit(1 if surprises else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/matrix")
    parser.add_argument(
        "--quick", action="store_true", help="a few clients that no Rust test drives, one TLS version for each mode"
    )
    parser.add_argument(
        "--uploads", action="store_true", help="ten clients × 20 uploads of 5 MiB over TLS 1.3 instead of the tour"
    )
    parser.add_argument("--only", help="names of clients, with commas")
    parser.add_argument("--mode", choices=(*MODES, LENIENT))
    parser.add_argument("--tls", choices=VERSIONS)
    parser.add_argument(
        "--resumption",
        help="enabled, disabled, enforced, with commas; default: enabled and enforced where the binary knows them",
    )
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/clients.md")
    parser.add_argument("--jobs", type=int, default=2, help="cells at once")
    parser.add_argument("--keep", action="store_true", help="print what the programs and the server said")
    return parser.parse_args()


def choose(options, resumptions):
    only = options.only.split(",") if options.only else None
    unknown = set(only or ()) - {client.name for client in CLIENTS}
    if unknown:
        sys.exit(f"no client named {', '.join(sorted(unknown))}")
    for client in CLIENTS:
        if only is not None and client.name not in only:
            continue
        if only is None and options.quick and not client.quick:
            continue
        if options.uploads and not client.uploads:
            continue
        for resumption in resumptions:
            for mode in client.modes:
                for tls in client.versions:
                    if options.mode not in (None, mode) or options.tls not in (None, tls):
                        continue
                    if options.uploads and (mode, tls) != ("explicit", "1.3"):
                        continue
                    # Both modes and both versions, in half the cells.
                    if options.quick and (mode, tls) not in (("explicit", "1.3"), ("implicit", "1.2")):
                        continue
                    yield Cell(client, mode, tls, resumption)


def run_cells(options, binary, python, directory, cells):
    """Runs all cells, a server of its own for each job: its metrics then belong to one client."""
    files = Files(directory / "in")
    runner = Runner(files, python, "uploads" if options.uploads else "tour")
    password_hash = hash_password(binary)
    lock = threading.Lock()
    for resumption in dict.fromkeys(cell.resumption for cell in cells):
        group = [cell for cell in cells if cell.resumption == resumption]
        users = [cell.user for cell in group]
        servers = [
            Server(binary, directory / f"server-{resumption or 'default'}-{number}", users, password_hash, resumption)
            for number in range(min(options.jobs, len(group)))
        ]
        idle = Queue()
        for server in servers:
            idle.put(server)

        def one(cell):
            server = idle.get()
            try:
                runner.run(cell, server)
            except Exception as error:  # A broken cell is a result, not the end of the others.
                cell.results = {step: ("fail", f"driver: {error!r}") for step in STEPS}
            finally:
                idle.put(server)
            bad = [step for step, (state, _) in cell.results.items() if state == "fail"]
            with lock:
                print(
                    f"{cell.name()}: {cell.seconds:.0f} s, data resumed {cell.resumed}/{cell.handshakes}"
                    + (f", not ok: {' '.join(bad)}" if bad else ""),
                    flush=True,
                )
                if options.keep:
                    print(cell.output, flush=True)

        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(one, group))
        finally:
            for server in servers:
                server.stop()
                if options.keep:
                    print((server.directory / "log").read_text(errors="replace"))

if __name__ == "__main__":
    main()
