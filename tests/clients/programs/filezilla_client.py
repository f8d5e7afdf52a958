"""FileZilla on a display that nobody sees: it lists on start, then works through a queue written for it.

Certificate and queue are laid where FileZilla keeps its own; one key, Ctrl+P, starts the queue.
"""

import os
import re
import sqlite3
import ssl
import subprocess
import time
from pathlib import Path

from _steps import CA, HOST, IN, MODE, OUT, PASSWORD, PORT, USER, report

HOME = Path(OUT) / "home"
CONFIG = HOME / ".config/filezilla"
LOG = HOME / "log"
PROTOCOL = {"implicit": 3, "explicit": 4}[MODE]
DOWNLOAD = 16
# (step, local name, remote directory, remote name, flags)
QUEUE = (
    ("small", "small.bin", "made", "small.bin", 0),
    ("zero", "zero.bin", "made", "zero.bin", 0),
    ("large", "large.bin", "made", "large.bin", 0),
    ("two", "medium.bin", "made", "one.bin", 0),
    ("two", "small.bin", "made", "two.bin", 0),
    ("get", "large.bin", "", "large.bin", DOWNLOAD),
)
SETTINGS = {
    "Greeting version": "3.63.0",
    "Update Check": 0,
    "Disable update check": 1,
    "Logging file": LOG,
    "Logging Debug Level": 0,
}
SCHEMA = """
CREATE TABLE servers (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, host TEXT NOT NULL, port INTEGER, user TEXT,
  password TEXT, account TEXT, keyfile TEXT, protocol INTEGER, type INTEGER, logontype INTEGER,
  timezone_offset INTEGER, transfer_mode TEXT, max_connections INTEGER, encoding TEXT, bypass_proxy INTEGER,
  post_login_commands TEXT, name TEXT, parameters TEXT, site_path TEXT DEFAULT NULL);
CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, server INTEGER NOT NULL, source_file TEXT,
  target_file TEXT, local_path INTEGER, remote_path INTEGER, size INTEGER, error_count INTEGER, priority INTEGER,
  flags INTEGER, default_exists_action INTEGER, extra_flags TEXT);
CREATE INDEX server_index ON files (server);
CREATE TABLE local_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
CREATE TABLE remote_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
PRAGMA user_version = 7;
"""


def document(body):
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<FileZilla3 version="3.63.0" platform="*nix">{body}</FileZilla3>\n'


def write_settings():
    CONFIG.mkdir(parents=True)
    rows = "".join(f'<Setting name="{name}">{value}</Setting>' for name, value in SETTINGS.items())
    (CONFIG / "filezilla.xml").write_text(document(f"<Settings>{rows}</Settings>"))
    leaf = ssl.PEM_cert_to_DER_cert((Path(CA).parent / "cert.pem").read_text())
    (CONFIG / "trustedcerts.xml").write_text(
        document(
            f"<TrustedCerts><Certificate><Data>{leaf.hex()}</Data><ActivationTime>1</ActivationTime>"
            f"<ExpirationTime>4102444800</ExpirationTime><Host>{HOST}</Host><Port>{PORT}</Port>"
            "<TrustSANs>0</TrustSANs></Certificate></TrustedCerts>"
        )
    )


def write_queue():
    base = sqlite3.connect(CONFIG / "queue.sqlite3")
    base.executescript(SCHEMA)
    base.execute(
        "INSERT INTO servers (id, host, port, user, password, protocol, type, logontype, timezone_offset,"
        " transfer_mode, max_connections, encoding, bypass_proxy)"
        " VALUES (1, ?, ?, ?, ?, ?, 0, 1, 0, 'MODE_DEFAULT', 0, 'Auto', 0)",
        (HOST, PORT, USER, PASSWORD, PROTOCOL),
    )
    base.executemany("INSERT INTO local_paths VALUES (?, ?)", ((1, f"{IN}/"), (2, f"{OUT}/")))
    # FileZilla's own form: type, length of the prefix, then each segment with its length.
    base.executemany("INSERT INTO remote_paths VALUES (?, ?)", ((1, "1 0 4 made"), (2, "1 0")))
    for _, local, directory, remote, flags in QUEUE:
        source, target = (remote, local) if flags & DOWNLOAD else (local, remote)
        size = os.path.getsize(f"{IN}/{local}")
        base.execute(
            "INSERT INTO files (server, source_file, target_file, local_path, remote_path, size, error_count,"
            " priority, flags, default_exists_action) VALUES (1, ?, ?, ?, ?, ?, 0, 2, ?, -1)",
            (source, target, 2 if flags & DOWNLOAD else 1, 1 if directory else 2, size, flags),
        )
    base.commit()
    base.close()


def log():
    return LOG.read_text(errors="replace") if LOG.exists() else ""


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def press(environment, keys):
    def tool(*arguments):
        answer = subprocess.run(["xdotool", *arguments], env=environment, capture_output=True, text=True)
        return answer.stdout.split()

    windows = tool("search", "--onlyvisible", "--name", "FileZilla$")
    for window in windows:
        tool("windowfocus", "--sync", window)
        tool("key", keys)


def main():
    write_settings()
    write_queue()
    read, write = os.pipe()
    display = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1200x900x24"], pass_fds=(write,), stderr=subprocess.DEVNULL
    )
    os.close(write)
    number = os.fdopen(read).readline().strip()
    environment = os.environ | {"HOME": str(HOME), "XDG_CONFIG_HOME": str(HOME / ".config"), "DISPLAY": f":{number}"}
    scheme = {"implicit": "ftps", "explicit": "ftpes"}[MODE]
    client = subprocess.Popen(["filezilla", f"{scheme}://{USER}:{PASSWORD}@{HOST}:{PORT}/listed"], env=environment)
    try:
        drive(environment)
    finally:
        print("    " + log().replace("\n", "\n    "))
        for child in (client, display):
            child.terminate()
            child.wait()


def drive(environment):
    listed = wait_for(lambda: 'Directory listing of "/listed" successful' in log(), 30)
    report("login", "ok" if "230 " in log() else "fail", "no 230")
    # Its log does not show the rows; a listing it cannot read is not "successful".
    report("mlsd", "ok" if listed else "fail", "no listing")
    # The window may need a moment until it takes keys.
    for _ in range(5):
        press(environment, "ctrl+p")
        if wait_for(lambda: re.search(r"Command: (STOR|RETR)", log()), 4):
            break
    wait_for(lambda: log().count("File transfer successful") >= len(QUEUE), 40)
    # Whether they are whole, the driver reads from the stored files.
    for step in ("mkdir", *dict.fromkeys(row[0] for row in QUEUE)):
        report(step, "ok")
    for step in ("list", "nlst", "resume-get", "resume-put", "append", "rename", "time", "delete", "rmdir", "abort"):
        report(step, "none", "not driven: no hand on the mouse")


main()
