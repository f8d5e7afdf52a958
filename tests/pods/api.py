"""The two things on this machine that pods need: the API that knows their Services, and a way to the S3 server."""

import asyncio
import http.server
import json
import re
import ssl
import threading

from network import MACHINE

TOKEN = "token-of-the-account"


class ServiceApi:
    """GET of a Service by a pod's account, as https://kubernetes.default.svc."""

    def __init__(self, certificate, key, address):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = http.server.ThreadingHTTPServer((MACHINE, 443), type("Handler", (_Handler,), {"address": address}))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    # Address of the Service of a pod, by ordinal; `None` is the one for all.
    address = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        match = re.fullmatch(r"/api/v1/namespaces/files/services/ftp-causeway(?:-(\d))?", self.path)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._answer(401, {"kind": "Status"})
        if not match:
            return self._answer(403, {"kind": "Status"})
        ingress = [{"ip": type(self).address(int(match[1]) if match[1] else None)}]
        self._answer(200, {"kind": "Service", "status": {"loadBalancer": {"ingress": ingress}}})

    def _answer(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Relay:
    """Leads from the pods' network to a port of this machine's loopback, where the S3 server listens."""

    def __init__(self, port):
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._handle, MACHINE, port))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self):
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _handle(self, reader, writer):
        upstream = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer))
        for each in (writer, upstream[1]):
            each.close()


async def _copy(reader, writer):
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
