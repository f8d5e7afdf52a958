"""Looks into a bucket of Google Cloud Storage behind the server's back, see answers.py.

    gcs.py ENDPOINT BUCKET
"""

import sys
from urllib.parse import quote

import requests
from answers import serve

endpoint, bucket = sys.argv[1:]
session = requests.Session()


def ask(method, path, **rest):
    answer = session.request(method, endpoint + path, timeout=60, **rest)
    if answer.status_code >= 400 and answer.status_code != 404:
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    return answer


def location(key):
    return f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"


def keys():
    found, token = [], None
    while True:
        page = ask("GET", f"/storage/v1/b/{bucket}/o", params={"pageToken": token} if token else {}).json()
        found += [item["name"] for item in page.get("items", [])]
        token = page.get("nextPageToken")
        if not token:
            return found


def put(key, file):
    with open(file, "rb") as body:
        write(key, body.read())


def write(key, content):
    headers = {"Content-Type": "application/octet-stream"}
    params = {"uploadType": "media", "name": key}
    ask("POST", f"/upload/storage/v1/b/{bucket}/o", params=params, headers=headers, data=content)


def get(key, file):
    answer = ask("GET", location(key), params={"alt": "media"})
    if answer.status_code == 404:
        return False
    with open(file, "wb") as body:
        body.write(answer.content)
    return True


def destroy():
    for key in keys():
        ask("DELETE", location(key))
    ask("DELETE", f"/storage/v1/b/{bucket}")


serve({
    "create": lambda: ask("POST", "/storage/v1/b", params={"project": "test"}, json={"name": bucket}) and None,
    "put": put,
    "put_empty": lambda keys: [write(key, b"") for key in keys] and None,
    "get": get,
    "list": keys,
    "uploads": lambda: ask("GET", f"/_uploads/{bucket}").json(),
    "destroy": destroy,
})
