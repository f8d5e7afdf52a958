"""gcp-storage-emulator with what it lacks and Google documents.

    gcs.py PORT

Added: preconditions on generations, pages of listings, XML multipart uploads, threads, and requests
whose body breaks off, which store nothing (the emulator takes them for complete). Changed: empty lists
are left out of a listing, and a range behind the end is 416, as Google answers.
"""

import base64
import functools
import json
import sys
import threading
import uuid
import xml.etree.ElementTree as xml
from http import HTTPStatus, server as http

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.storage import Storage

lock = threading.RLock()
# XML multipart uploads under way: id -> (bucket, name, headers, {number: bytes}).
uploads = {}
storage = Storage(use_memory_fs=True)
# Every change would write down all there is, which nobody reads: it all lies in memory.
storage._write_config_to_file = lambda: None


def generation(bucket, name):
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"


def holds(request, key, bucket, name):
    """Whether the precondition in the query's `key`, if any, is met."""
    wanted = request.query.get(key)
    return not wanted or wanted[0] == generation(bucket, name)


def guarded(handler, name=lambda request: request.params["object_id"], missing_is_404=False):
    """The handler behind ifGenerationMatch; the body is read before the lock is taken."""

    @functools.wraps(handler)
    def handle(request, response, _storage):
        request.data
        with lock:
            bucket, target = request.params["bucket_name"], name(request)
            if missing_is_404 and generation(bucket, target) == "0":
                response.status = HTTPStatus.NOT_FOUND
            elif not holds(request, "ifGenerationMatch", bucket, target):
                response.status = HTTPStatus.PRECONDITION_FAILED
                response.json({"error": {"code": 412, "message": "conditionNotMet"}})
            else:
                handler(request, response, storage)

    return handle


def uploaded_name(request):
    if "name" in request.query:
        return request.query["name"][0]
    data = request.data or {}
    return (data.get("meta") or data).get("name")


def list_objects(request, response, _storage):
    """objects.ls in key order and pages; names and prefixes share a page, as Google counts them."""
    query = {key: values[0] for key, values in request.query.items()}
    with lock:
        try:
            items, prefixes = storage.get_file_list(
                request.params["bucket_name"], query.get("prefix"), query.get("delimiter")
            )
        except NotFound:
            response.status = HTTPStatus.NOT_FOUND
            return
        items = [dict(item) for item in items]
        # includeTrailingDelimiter: markers of the prefixes come among the items as well.
        if query.get("includeTrailingDelimiter") == "true":
            for prefix in prefixes:
                try:
                    items.append(dict(storage.get_file_obj(request.params["bucket_name"], prefix)))
                except NotFound:
                    pass
    rows = sorted([(item["name"], 1, item) for item in items] + [(p, 0, p) for p in prefixes], key=lambda row: row[:2])
    after, most = query.get("pageToken"), int(query.get("maxResults", 1000))
    if after:
        after = base64.urlsafe_b64decode(after).decode()
        rows = [row for row in rows if f"{row[0]} {row[1]}" > after]
    answer = {"kind": "storage#objects"}
    if len(rows) > most:
        last = f"{rows[most - 1][0]} {rows[most - 1][1]}"
        # As Google's: clients put it into their address as it is.
        answer["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
    rows = rows[:most]
    found = {"prefixes": [row[2] for row in rows if row[1] == 0], "items": [row[2] for row in rows if row[1] == 1]}
    answer.update({key: value for key, value in found.items() if value})
    response.json(answer)


def download(request, response, _storage):
    with lock:
        bucket, name = request.params["bucket_name"], request.params["object_id"]
        if generation(bucket, name) == "0":
            response.status = HTTPStatus.NOT_FOUND
            return
        if not holds(request, "ifGenerationMatch", bucket, name):
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        size = int(storage.get_file_obj(bucket, name)["size"])
        asked = request.get_header("range") or ""
        start = asked.removeprefix("bytes=").split("-")[0]
        if start.isdigit() and int(start) >= size:
            response.status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            return
        objects_download(request, response, storage)


def get(request, response, _storage):
    if request.query.get("alt") == ["media"]:
        download(request, response, _storage)
    else:
        get_guarded(request, response, _storage)


def rewrite(request, response, _storage):
    request.data
    with lock:
        to = request.params["dest_bucket_name"], request.params["dest_object_id"]
        source = request.params["bucket_name"], request.params["object_id"]
        if not (holds(request, "ifGenerationMatch", *to) and holds(request, "ifSourceGenerationMatch", *source)):
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        objects_rewrite(request, response, storage)


def element(name, **children):
    root = xml.Element(name)
    for key, value in children.items():
        xml.SubElement(root, key).text = value
    return xml.tostring(root)


def xml_multipart(request, response, _storage):
    """https://cloud.google.com/storage/docs/multipart-uploads"""
    handler = request._request_handler
    bucket, name = request.params["bucket_name"], request.params["object_id"]
    query = {part.split("=")[0]: part.partition("=")[2] for part in request._parsed_url.query.split("&")}
    if request.method == "POST" and "uploads" in query:
        upload = uuid.uuid4().hex
        with lock:
            uploads[upload] = (bucket, name, dict(handler.headers.items()), {})
        response.write_file(element("InitiateMultipartUploadResult", Bucket=bucket, Key=name, UploadId=upload), "application/xml")
        return
    body = server._read_raw_data(handler) or b""
    with lock:
        upload = uploads.get(query.get("uploadId"))
        if upload is None:
            response.status = HTTPStatus.NOT_FOUND
            response.write_file(element("Error", Code="NoSuchUpload"), "application/xml")
        elif request.method == "PUT":
            upload[3][int(query["partNumber"])] = body
            response["ETag"] = '"%s"' % objects._md5(body)
        elif request.method == "DELETE":
            del uploads[query["uploadId"]]
            response.status = HTTPStatus.NO_CONTENT
        else:
            complete(query["uploadId"], body, request, response)


def complete(upload, body, request, response):
    bucket, name, headers, parts = uploads[upload]
    numbers = [int(part.find("{*}PartNumber").text) for part in xml.fromstring(body).iter() if part.find("{*}PartNumber") is not None]
    short = [number for number in numbers[:-1] if len(parts.get(number, b"")) < 5 << 20]
    if not numbers or short or any(number not in parts for number in numbers):
        response.status = HTTPStatus.BAD_REQUEST
        response.write_file(element("Error", Code="EntityTooSmall" if short else "InvalidPart"), "application/xml")
        return
    content = b"".join(parts[number] for number in numbers)
    meta = {key[len("x-goog-meta-"):]: value for key, value in headers.items() if key.lower().startswith("x-goog-meta-")}
    kind = headers.get("Content-Type") or headers.get("content-type") or "application/octet-stream"
    made = resource(request.base_url, bucket, name, kind, len(content), {"metadata": meta})
    storage.create_file(bucket, name, content, objects._checksums(content, made))
    del uploads[upload]
    response["x-goog-generation"] = made["generation"]
    response["ETag"] = '"%s"' % made["etag"]
    response.write_file(element("CompleteMultipartUploadResult", Bucket=bucket, Key=name), "application/xml")


def open_uploads(request, response, _storage):
    """For the tests: Google lists them by bucket, in XML."""
    with lock:
        response.json([upload[1] for upload in uploads.values() if upload[0] == request.params["bucket_name"]])


def read_body(handler):
    """A body as it was announced, or none at all."""
    length = handler.headers.get("Content-Length")
    if length:
        body = handler.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the body broke off")
        return body
    if (handler.headers.get("Transfer-Encoding") or "").lower() != "chunked":
        return None
    # Not bytes: adding to those copies all that came before.
    body = bytearray()
    while True:
        line = handler.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the body broke off")
        size = int(line.strip(), 16)
        chunk = handler.rfile.read(size + 2)
        if len(chunk) < size + 2:
            raise ConnectionError("the body broke off")
        if size == 0:
            return bytes(body)
        body += chunk[:-2]


def read_data(handler, query):
    """server._read_data, but for empty bodies, and with the bytes of multipart/related as they came."""
    kind = handler.headers.get("Content-Type") or ""
    raw = server._read_raw_data(handler)
    if kind.startswith("multipart/related"):
        boundary = b"--" + kind.split("boundary=")[1].strip('"').encode()
        parts = [part.partition(b"\r\n\r\n") for part in raw.split(b"\r\n" + boundary)]
        meta, content = parts[0], parts[1]
        headers = dict(line.split(": ", 1) for line in content[0].decode().strip().split("\r\n"))
        headers = {name.lower(): value for name, value in headers.items()}
        return {
            "meta": json.loads(meta[2]),
            "content": content[2],
            "content-type": headers.get("content-type", "application/octet-stream"),
        }
    if not raw:
        return b"" if query.get("uploadType") == ["media"] or "upload_id" in query else None
    if kind.startswith("application/json") and "upload_id" not in query:
        return json.loads(raw)
    return raw


class Handler(server.RequestHandler):
    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True


class Server(http.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


make_resource = objects._make_object_resource


def resource(base_url, bucket, name, kind, length, metadata=None):
    """An object as Google describes it: always with a content type, its size a string."""
    length = length if length is None else str(length)
    return make_resource(base_url, bucket, name, kind or "application/octet-stream", length, metadata)


objects._make_object_resource = resource
server._read_raw_data = read_body
server._read_data = read_data
get_guarded = guarded(objects.get, missing_is_404=True)
objects_download, objects_rewrite = objects.download, objects.rewrite
replaced = {
    objects.ls: list_objects,
    objects.get: get,
    objects.download: download,
    objects.rewrite: rewrite,
    objects.compose: guarded(objects.compose),
    objects.delete: guarded(objects.delete, missing_is_404=True),
    objects.insert: guarded(objects.insert, uploaded_name),
    objects.upload_partial: guarded(objects.upload_partial, uploaded_name),
    objects.xml_upload: xml_multipart,
}
routes = [(path, {method: replaced.get(handler, handler) for method, handler in handlers.items()}) for path, handlers in server.HANDLERS]
# The last route is that of the XML interface.
routes[-1][1].update({method: xml_multipart for method in ("POST", "PUT", "DELETE")})
routes.insert(0, (r"^/_uploads/(?P<bucket_name>[-.\w]+)$", {"GET": open_uploads}))
server.HANDLERS = tuple(routes)
Server(("127.0.0.1", int(sys.argv[1])), functools.partial(Handler, storage)).serve_forever()
