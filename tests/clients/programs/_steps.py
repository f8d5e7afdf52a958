"""What the Python programs share: the driver's variables and one line for each step."""

import os
import sys

TASK, HOST, MODE, TLS, CA, USER, PASSWORD, IN, OUT, TIME = (
    os.environ[f"MATRIX_{name}"]
    for name in ("TASK", "HOST", "MODE", "TLS", "CA", "USER", "PASSWORD", "IN", "OUT", "TIME")
)
PORT = int(os.environ["MATRIX_PORT"])
PART = 2 * 1024 * 1024 + 17
UPLOADS = [f"up-{number:02}.bin" for number in range(1, 21)]


class Cannot(Exception):
    """The client has no such command."""


def step(name, action, after_failure=lambda: None):
    try:
        action()
    except Cannot as why:
        report(name, "none", why)
    except Exception as error:
        report(name, "fail", f"{type(error).__name__}: {error}")
        after_failure()
    else:
        report(name, "ok")


def report(name, state, why=""):
    print(name, state, " ".join(str(why).split()))
    sys.stdout.flush()
