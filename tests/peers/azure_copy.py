"""Azurite with the request that it lacks: Put Block From URL, answered as Azure does, in chunks.

    azure_copy.py ENDPOINT,ACCOUNT,KEY RECORD

Listens as an HTTP proxy on a free port of 127.0.0.1 and prints it, so that an account has a host name of its
own as at Azure: what Azurite calls a production-style URL, with the signatures of one. The source is read with the very URL that the request
names, so its signature must be right; everything else goes on to Azurite as it came, signature included.
Records METHOD, what the query asks for, and bytes of the body, one line a request.
"""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

from account_sas import account_sas

PEER, RECORD = sys.argv[1:]
ENDPOINT, ACCOUNT, KEY = PEER.split(",")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(urlsplit(self.path).query)
        source = self.headers.get("x-ms-copy-source")
        kind = "copy-block" if source and query.get("comp") == ["block"] else query.get("comp", [""])[0]
        with open(RECORD, "a", encoding="utf-8") as record:
            print(self.command, kind or "-", len(body), file=record)
        if kind == "copy-block":
            return self.copy_block(source, query["blockid"][0])
        answer, content = self.azurite(self.command, self.path, body, dict(self.headers))
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.answer(answer.status, headers, content, length)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    def copy_block(self, source, block_id):
        read, block = self.azurite("GET", source, b"", {"Range": self.headers["x-ms-source-range"]})
        if read.status not in (200, 206):
            return self.answer(read.status, [], block, None)
        target = urlsplit(self.path)
        query = f"comp=block&blockid={quote(block_id, safe='')}&{account_sas(ACCOUNT, KEY)}"
        staged, why = self.azurite("PUT", target._replace(query=query).geturl(), block, {})
        if staged.status != 201:
            return self.answer(staged.status, [], why, None)
        self.answer(201, [("x-ms-request-server-encrypted", "true")], b"", None)

    def azurite(self, method, url, body, headers):
        """The answer to a request for a URL of the account's own host."""
        url = urlsplit(url)
        azurite = http.client.HTTPConnection(urlsplit(ENDPOINT).netloc, timeout=60)
        path = url._replace(scheme="", netloc="").geturl()
        headers = {name: value for name, value in headers.items() if name.lower() != "host"}
        azurite.request(method, path, body, headers | {"Host": url.netloc})
        answer = azurite.getresponse()
        return answer, answer.read()

    def answer(self, status, headers, content, length):
        """In chunks, as Azure answers, or with the length that a HEAD tells."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        bodiless = self.command == "HEAD" or status in (204, 304)
        if bodiless:
            if length is not None:
                self.send_header("Content-Length", length)
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if not bodiless:
            for start in range(0, len(content), 65536):
                chunk = content[start:start + 65536]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
