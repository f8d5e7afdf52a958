"""An authentication hook as an operator would write one, and as one fails: the user's name says how.

    hook.py CERTIFICATE KEY CLIENT_CA SECRET BEARER RECORD

Listens on a free port of 127.0.0.1 and prints it. With an empty CERTIFICATE it speaks plain HTTP, with an
empty CLIENT_CA it asks for no client certificate. Requests are checked (signature, time, bearer) and
recorded, one JSON object a line, without their passwords.
"""

import hashlib
import hmac
import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CERTIFICATE, KEY, CLIENT_CA, SECRET, BEARER, RECORD = sys.argv[1:]
PASSWORD = "from the hook"
tries = {}


def document(user):
    """What a good hook says of a user."""
    return {"name": user, "home": f"hook/{user}", "groups": ["uploaders"]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stamp = self.headers.get("Causeway-Timestamp", "")
        signed = stamp.encode() + b"." + body
        expected = "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        question = json.loads(body)
        problem = None
        if not hmac.compare_digest(expected, self.headers.get("Causeway-Signature", "")):
            problem = "signature"
        elif abs(time.time() - int(stamp)) > 60:
            problem = "timestamp"
        elif BEARER and self.headers.get("Authorization") != f"Bearer {BEARER}":
            problem = "bearer"
        password = question.pop("password")
        with open(RECORD, "a", encoding="utf-8") as record:
            print(json.dumps({**question, "has_password": password is not None, "problem": problem}), file=record)
        if problem:
            return self.answer(400, problem.encode())
        user = question["user"]
        tries[user] = tries.get(user, 0) + 1
        act = getattr(self, "do_" + user.replace("-", "_"), None)
        if act:
            return act(user)
        if user.startswith("unknown"):
            return self.answer(404)
        if question["method"] != "password" or password != PASSWORD:
            return self.answer(403)
        self.answer(200, json.dumps(document(user)).encode())

    def do_slow(self, user):
        time.sleep(30)
        self.answer(200, json.dumps(document(user)).encode())

    def do_drip(self, user):
        """Headers at once, the document byte by byte: every single wait is short."""
        body = json.dumps(document(user)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            time.sleep(0.5)
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def do_huge(self, user):
        self.answer(200, json.dumps({**document(user), "attributes": {"a": "x" * (8 << 20)}}).encode())

    def do_endless(self, user):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            self.close_connection = True

    def do_closing(self, user):
        self.close_connection = True
        self.connection.close()

    def do_html(self, user):
        self.answer(200, b"<html><body>Welcome!</body></html>")

    def do_half(self, user):
        self.answer(200, b'{"name": "half", "home": ')

    def do_empty(self, user):
        self.answer(200)

    def do_binary(self, user):
        self.answer(200, b'{"name": "\xff\xfe"}')

    def do_liar(self, user):
        self.answer(200, json.dumps(document("alice")).encode())

    def do_nameless(self, user):
        self.answer(200, b'{"home": "x"}')

    def do_keys(self, user):
        self.answer(200, json.dumps({**document(user), "is_admin": True}).encode())

    def do_groups(self, user):
        self.answer(200, json.dumps({**document(user), "groups": ["nobody knows"]}).encode())

    def do_escape(self, user):
        self.answer(200, json.dumps({**document(user), "home": "../alice"}).encode())

    def do_environment(self, user):
        self.answer(200, json.dumps({**document(user), "home": {"env": "HOME"}}).encode())

    def do_file(self, user):
        self.answer(200, json.dumps({**document(user), "home": {"file": "/etc/hostname"}}).encode())

    def do_redirect(self, user):
        self.send_response(307)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_error(self, user):
        self.answer(500, json.dumps(document(user)).encode())

    def do_created(self, user):
        self.answer(201, json.dumps(document(user)).encode())

    def do_third_time(self, user):
        """Overloaded twice."""
        if tries[user] < 3:
            return self.answer(503)
        self.answer(200, json.dumps(document(user)).encode())

    def do_certified(self, user):
        self.answer(200, json.dumps({**document(user), "login": "certificate", "certificates": ["device"]}).encode())

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that gives up is what is tested."""


server = Server(("127.0.0.1", 0), Handler)
if CERTIFICATE:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    if CLIENT_CA:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CLIENT_CA)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
