"""What tests/compare runs. Rounds go in turns through all servers, so that what else the machine does falls on each."""

import concurrent.futures
import contextlib
import ftplib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from servers import ON_DISK, ON_S3, PASSWORD, USER, Lab

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "comparison.md"
MARK = "<!-- written by tests/compare --write-docs -->\n"
CUTS = 10
CUT_SIZE = 4 << 20
OLD = b"what was there before\n" * 1000
LARGE = 512 << 20
ROUNDS = 3
SMALL = 200
SMALL_SIZE = 10_000
AT_ONCE = 8


def main():
    words = sys.argv[1:]
    write = "--write-docs" in words
    chosen = [word for word in words if word != "--write-docs"] or list(PARTS)
    assert set(chosen) <= set(PARTS), f"usage: tests/compare [--write-docs] {' '.join(f'[{part}]' for part in PARTS)}"
    assert not write or len(chosen) == len(PARTS), "--write-docs writes the whole page"
    text = ""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as running:
        lab = Lab(pathlib.Path(directory))
        servers = []
        for kind in ON_DISK + ON_S3:
            servers.append(kind(lab))
            running.callback(servers[-1].stop)
        for part in chosen:
            table = PARTS[part](lab, servers)
            print(table, flush=True)
            text += table + "\n"
    if write:
        before, _, _ = PAGE.read_text().partition(MARK)
        PAGE.write_text(before + MARK + "\n" + text.rstrip() + "\n")


def cut(lab, servers):
    rows = []
    for server in servers:
        chance = random.Random(1)
        told = dict.fromkeys(MANNERS, 0)
        early = 0
        for number in range(CUTS):
            _store(lab, server, f"old-{number}.bin", OLD)
            for manner in MANNERS:
                confirmed, seen = _cut_one(lab, server, manner, f"{manner}-{number}.bin", chance)
                told[manner] += confirmed
                early += seen
            _cut_one(lab, server, "gone", f"old-{number}.bin", chance)
        left = _settled(server)
        old = [name for name, size in left.items() if name.startswith("old-") and size == len(OLD) and server.content(name) == OLD]
        cells = []
        for manner in MANNERS:
            sizes = [size for name, size in left.items() if name.startswith(f"{manner}-")]
            cells.append(f"{len(sizes)}" + (f", {told[manner]} times `226`" if told[manner] else ""))
        rows.append((server.name, *cells, CUTS - len(old), f"{early} of {CUTS * len(MANNERS)}"))
    return _table(
        "Cut uploads",
        f"How many of {CUTS} uploads, each cut at a random byte, left a truncated file under the name that was asked for, and how "
        f"often the client was told that it was stored; how many of {CUTS} files that were there before were gone or changed after "
        "an upload to their name was cut; how many uploads could be seen under their name while they still ran.",
        ("server", "cut without TLS's `close_notify`", "cut by a reset", "client gone", "old files lost", "seen unfinished"),
        rows,
    )


def _store(lab, server, name, content):
    source = lab.directory / "old.bin"
    source.write_bytes(content)
    _curl(lab, server, "--upload-file", source, name=name)


def _cut_one(lab, server, manner, name, chance):
    """Whether the client was told that the file was stored; whether somebody could see it before it was cut."""
    context = ssl.create_default_context(cafile=lab.directory / "ca.crt")
    client = ftplib.FTP_TLS(context=context, timeout=60)
    client.connect("127.0.0.1", server.port)
    client.login(USER, PASSWORD)
    client.prot_p()
    client.voidcmd("TYPE I")
    data = client.transfercmd(f"STOR {name}")
    data.sendall(chance.randbytes(chance.randrange(100_000, CUT_SIZE)))
    seen = name in server.stored()
    MANNERS[manner](data, client)
    if manner == "gone":
        return False, seen
    try:
        reply = client.getresp()
    except (ftplib.Error, EOFError, OSError) as problem:
        reply = str(problem)
    client.close()
    return reply.startswith("2"), seen


def _end(data, _):
    # Of the socket below: TLS says nothing.
    socket.socket.shutdown(data, socket.SHUT_WR)


def _reset(data, _):
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data.close()


def _gone(data, client):
    data.close()
    client.sock.close()
    client.file.close()


MANNERS = {"end": _end, "reset": _reset, "gone": _gone}


def _settled(server):
    """What is there when nothing changes any more."""
    seen, end = [], time.monotonic() + 120
    while len(seen) < 4 or any(each != seen[-1] for each in seen[-4:]):
        assert time.monotonic() < end, f"{server.name}: files still change"
        time.sleep(1)
        seen.append(server.stored())
    return seen[-1]


def large(lab, servers):
    source = lab.directory / "large.bin"
    with source.open("wb") as file:
        for _ in range(LARGE >> 20):
            file.write(os.urandom(1 << 20))
    digest = hashlib.sha256(source.read_bytes()).digest()
    figures = {server: ([], []) for server in servers}
    peaks = dict.fromkeys(servers, 0)
    for number in range(ROUNDS):
        for server in servers:
            server.group.peak()
            figures[server][0].append(_timed(server, lambda: _curl(lab, server, "--upload-file", source, name="large.bin")))
            if number == 0:
                assert hashlib.sha256(server.content("large.bin")).digest() == digest, f"{server.name}: other bytes"
            figures[server][1].append(_timed(server, lambda: _curl(lab, server, "--output", "/dev/null", name="large.bin")))
            peaks[server] = max(peaks[server], server.group.peak())
    rows = []
    for server, (up, down) in figures.items():
        cells = []
        for each in (up, down):
            seconds, cpu = (statistics.median(values) for values in zip(*each))
            cells += [f"{LARGE / seconds / (1 << 20):.0f}", f"{cpu * (1 << 30) / LARGE:.2f}"]
        rows.append((server.name, *cells, f"{peaks[server]:.0f}"))
    return _table(
        "A large file",
        f"{LARGE >> 20} MiB with curl, median of {ROUNDS} rounds in turns. CPU seconds are those of all processes of the server, per GiB; "
        "memory is the most that they held at once, without page cache.",
        ("server", "up, MiB/s", "up, CPU s/GiB", "down, MiB/s", "down, CPU s/GiB", "memory, MiB"),
        rows,
    )


def small(lab, servers):
    source = lab.directory / "small.bin"
    source.write_bytes(os.urandom(SMALL_SIZE))
    figures = {server: [] for server in servers}
    failed = {server: [] for server in servers}
    peaks = dict.fromkeys(servers, 0)
    for number in range(ROUNDS):
        for server in servers:
            server.group.peak()

            def upload_all():
                with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                    names = [f"small-{number}-{each}.bin" for each in range(SMALL)]
                    done = pool.map(lambda name: _try_curl(lab, server, "--upload-file", source, name=name), names)
                    failed[server] += [problem for problem in done if problem]

            figures[server].append(_timed(server, upload_all))
            peaks[server] = max(peaks[server], server.group.peak())
    rows = []
    for server, measured in figures.items():
        sizes = [size for name, size in server.stored().items() if name.startswith("small-")]
        for problem in failed[server]:
            print(problem)
        ours = server.name.startswith("causeway")
        assert not (ours and failed[server]), failed[server]
        stored = SMALL * ROUNDS - len(failed[server])
        assert sizes.count(SMALL_SIZE) >= stored, f"{server.name}: {len(sizes)} files, told of {stored}"
        seconds, cpu = (statistics.median(values) for values in zip(*measured))
        rows.append((server.name, f"{SMALL / seconds:.0f}", f"{cpu / SMALL * 1000:.1f}", f"{peaks[server]:.0f}", len(failed[server])))
    return _table(
        "Small files",
        f"{SMALL} files of {SMALL_SIZE // 1000} KB, each with a connection and login of its own, {AT_ONCE} at once, median of {ROUNDS} rounds in turns. "
        "The clients take most of the processor. A transfer that fails is not tried again.",
        ("server", "files/s", "CPU ms per file", "memory, MiB", f"failed of {SMALL * ROUNDS}"),
        rows,
    )


PARTS = {"cut": cut, "large": large, "small": small}


def _timed(server, action):
    """Wall-clock seconds, and CPU seconds of the server."""
    cpu, began = server.group.cpu(), time.monotonic()
    action()
    return time.monotonic() - began, server.group.cpu() - cpu


def _curl(lab, server, *arguments, name):
    problem = _try_curl(lab, server, *arguments, name=name)
    assert not problem, problem


def _try_curl(lab, server, *arguments, name):
    """What went wrong, if anything did."""
    command = ["curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", lab.directory / "ca.crt", "--max-time", "300"]
    command += ["--user", f"{USER}:{PASSWORD}", *arguments, f"ftp://127.0.0.1:{server.port}/{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{server.name}, {name}: {done.stderr.strip()}" if done.returncode else None


def _table(title, text, head, rows):
    lines = [f"## {title}", "", text, "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""])


if __name__ == "__main__":
    if shutil.which("unshare") is None:
        sys.exit("tests/compare: unshare (util-linux) is missing")
    # Servers end, whichever way this does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except AssertionError as failure:
        sys.exit(f"FAILED: {failure}")
