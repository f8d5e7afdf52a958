"""A cloud's credential services, and a gate before a store that lets in only what they gave out.

    cloud.py s3|gcs|azblob STORE CERTIFICATE KEY RECORD

STORE is what the script of the store in tests/lab prints: ENDPOINT[,ID,SECRET]. Listens on a free port of
127.0.0.1 and prints it. The services, each of which refuses a request that its documentation would refuse:

- AWS: container credentials at /container, instance metadata (IMDSv2), and as an HTTP proxy
  (CONNECT sts.amazonaws.com:443, with CERTIFICATE) AssumeRoleWithWebIdentity;
- Google: the metadata server's tokens;
- Azure: the instance metadata's tokens, and those of Entra ID for a federated token.

Everything else is a request for the store. The signature (AWS) or bearer token (Google, Azure) must be of
credentials that were given out here no longer than EIGHT seconds ago, since clients are told of an end that
they take for near after one or two seconds; then the request goes on to the store as its owner's. What was
given out and what was asked is recorded, one JSON object a line.
"""

import datetime
import email.utils
import hmac
import http.client
import json
import secrets
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KIND, STORE, CERTIFICATE, KEY, RECORD = sys.argv[1:]
ENDPOINT, *OWNER = STORE.split(",")
EIGHT = 8
CONTAINER_TOKEN = "token of the container"
WEB_IDENTITY = "token of the service account"
ROLE = "arn:aws:iam::123456789012:role/causeway"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "proxy-connection", "te", "upgrade"}

issued = {}
lock = threading.Lock()


def note(**what):
    with lock, open(RECORD, "a", encoding="utf-8") as record:
        print(json.dumps(what), file=record)


def issue(by, fresh):
    """New credentials that their holder must take for good for `fresh` more seconds, by its own margin."""
    credentials = {
        "id": "ASIA" + secrets.token_hex(8).upper(),
        "secret": secrets.token_urlsafe(30),
        "token": secrets.token_urlsafe(60),
        "at": time.time(),
        "ends": time.time() + fresh,
    }
    with lock:
        issued[credentials["id"]] = issued[credentials["token"]] = credentials
    note(issued=credentials["id"], by=by, secrets=[credentials["secret"], credentials["token"]])
    return credentials


def iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Refused(Exception):
    """Why a request is not let in."""


def known(name):
    with lock:
        credentials = issued.get(name)
    if not credentials:
        raise Refused("these credentials were never given out")
    if time.time() - credentials["at"] > EIGHT:
        raise Refused("these credentials have expired")
    return credentials


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        if self.path != "sts.amazonaws.com:443":
            return self.answer(403, b"only STS is here")
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        service = {
            "/": self.sts if self.headers["Host"] == "sts.amazonaws.com" else None,
            "/container": self.container,
            "/latest/api/token": self.session_token,
            "/latest/meta-data/iam/security-credentials/": self.role,
            "/latest/meta-data/iam/security-credentials/causeway": self.instance,
            "/computeMetadata/v1/instance/service-accounts/default/token": self.google,
            "/metadata/identity/oauth2/token": self.azure_instance,
            "/tenant/oauth2/v2.0/token": self.entra,
        }.get(url.path)
        try:
            if service:
                return service(parse_qs(url.query), parse_qs(body.decode()))
            return self.pass_on(body)
        except Refused as why:
            note(request=f"{self.command} {self.path}", refused=str(why))
            text = f"<Error><Code>AccessDenied</Code><Message>{why}</Message></Error>"
            self.answer(403, text.encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    def demand(self, name, value):
        if not hmac.compare_digest(self.headers.get(name) or "", value):
            raise Refused(f"{name} is missing or wrong")

    # AWS

    def container(self, _query, _form):
        self.demand("Authorization", CONTAINER_TOKEN)
        given = issue("container", 122)
        self.json({
            "RoleArn": ROLE, "AccessKeyId": given["id"], "SecretAccessKey": given["secret"],
            "Token": given["token"], "Expiration": iso(given["ends"]),
        })

    def session_token(self, _query, _form):
        if self.command != "PUT" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
            raise Refused("no PUT with a time to live")
        self.answer(200, b"session of the instance")

    def role(self, _query, _form):
        self.demand("X-aws-ec2-metadata-token", "session of the instance")
        self.answer(200, b"causeway")

    def instance(self, _query, _form):
        self.demand("X-aws-ec2-metadata-token", "session of the instance")
        given = issue("instance", 122)
        self.json({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": iso(given["at"]), "AccessKeyId": given["id"],
            "SecretAccessKey": given["secret"], "Token": given["token"], "Expiration": iso(given["ends"]),
        })

    def sts(self, query, form):
        said = {name: values[0] for name, values in (query | form).items()}
        wanted = {
            "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15",
            "RoleArn": ROLE, "WebIdentityToken": WEB_IDENTITY,
        }
        wrong = [name for name, value in wanted.items() if said.get(name) != value]
        if wrong or not isinstance(self.connection, ssl.SSLSocket):
            raise Refused(f"wrong: {wrong}")
        given = issue("sts", 122)
        answer = f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <Credentials>
      <SessionToken>{given["token"]}</SessionToken>
      <SecretAccessKey>{given["secret"]}</SecretAccessKey>
      <Expiration>{iso(given["ends"])}</Expiration>
      <AccessKeyId>{given["id"]}</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""
        self.answer(200, answer.encode())

    # Google and Azure

    def google(self, _query, _form):
        self.demand("Metadata-Flavor", "Google")
        given = issue("metadata", 122)
        self.json({"access_token": given["token"], "expires_in": 122, "token_type": "Bearer"})

    def azure_instance(self, query, _form):
        self.demand("Metadata", "true")
        if query.get("resource") not in (["https://storage.azure.com/"], ["https://storage.azure.com"]):
            raise Refused(f"wrong resource {query.get('resource')}")
        given = issue("instance", 22)
        self.json({"access_token": given["token"], "expires_on": str(int(given["ends"])), "token_type": "Bearer"})

    def entra(self, _query, form):
        wanted = {
            "grant_type": "client_credentials", "client_id": "client", "client_assertion": WEB_IDENTITY,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "scope": "https://storage.azure.com/.default",
        }
        wrong = [name for name, value in wanted.items() if form.get(name) != [value]]
        if wrong:
            raise Refused(f"wrong: {wrong}")
        given = issue("entra", 22)
        self.json({"access_token": given["token"], "expires_in": 22, "token_type": "Bearer"})

    # The gate

    def pass_on(self, body):
        given = self.signed_by() if KIND == "s3" else self.bearer()
        note(request=f"{self.command} {self.path}", by=given["id"])
        path, drop = self.path, HOP_BY_HOP | {"authorization", "host"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in drop}
        if KIND == "s3":
            headers = self.signed_by_owner(headers, body)
        if KIND == "azblob":
            from account_sas import account_sas  # a package that the others do not need

            path += ("&" if "?" in path else "?") + account_sas(*OWNER)
        address = urlsplit(ENDPOINT).netloc
        headers["Host"] = address
        store = http.client.HTTPConnection(address, timeout=60)
        store.request(self.command, path, body, headers)
        answer = store.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP | {"content-length", "date", "server"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        if length is not None and answer.status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def signed_by(self):
        """Whose request it is, if the signature is right."""
        scheme, _, rest = (self.headers.get("Authorization") or "").partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            raise Refused("no signature")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        key_id, _, region, service, _ = parts["Credential"].split("/")
        given = known(key_id)
        self.demand("X-Amz-Security-Token", given["token"])
        names = parts["SignedHeaders"].split(";")
        if "host" not in names or "x-amz-security-token" not in names:
            raise Refused("host and token must be signed")
        request = AWSRequest(
            self.command, f"http://{self.headers['Host']}{self.path}",
            {name: self.headers.get(name, "") for name in names},
        )
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        signer = OfHeaders(Credentials(given["id"], given["secret"], given["token"]), service, region)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        if not hmac.compare_digest(signer.signature(text, request), parts["Signature"]):
            raise Refused("the signature is wrong")
        return given

    def signed_by_owner(self, headers, body):
        drop = {"x-amz-security-token", "x-amz-date", "x-amz-content-sha256"}
        headers = {name: value for name, value in headers.items() if name.lower() not in drop}
        request = AWSRequest(self.command, ENDPOINT + self.path, headers, body)
        OfHeaders(Credentials(*OWNER), "s3", "us-east-1").add_auth(request)
        return dict(request.headers)

    def bearer(self):
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme != "Bearer":
            raise Refused("no bearer token")
        return known(token)

    def json(self, content):
        self.answer(200, json.dumps(content).encode())

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Date", email.utils.formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


class OfHeaders(S3SigV4Auth):
    """Signs the headers that are there, and path and query in their canonical form, however they were sent."""

    def _should_sha256_sign_payload(self, request):
        return False

    def canonical_query_string(self, request):
        pairs = [pair.partition("=")[::2] for pair in urlsplit(request.url).query.split("&") if pair]
        encoded = [tuple(quote(unquote(text), safe="-_.~") for text in pair) for pair in pairs]
        return "&".join(f"{name}={value}" for name, value in sorted(encoded))

    def _normalize_url_path(self, path):
        return quote(unquote(path), safe="/-_.~")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
