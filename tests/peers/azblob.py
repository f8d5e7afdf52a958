"""Looks into a container of Azure Blob Storage behind the server's back, see answers.py.

    azblob.py ENDPOINT ACCOUNT KEY CONTAINER
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from answers import serve
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

endpoint, account, key, container = sys.argv[1:]
client = ContainerClient(endpoint, container, credential={"account_name": account, "account_key": key})


def keys():
    return [blob.name for blob in client.list_blobs()]


def put(key, file):
    with open(file, "rb") as body:
        client.upload_blob(key, body, overwrite=True)


def put_empty(keys):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.upload_blob(key, b"", overwrite=True), keys))


def get(key, file):
    try:
        content = client.download_blob(key)
    except ResourceNotFoundError:
        return False
    with open(file, "wb") as body:
        content.readinto(body)
    return True


serve({
    "create": lambda: client.create_container() and None,
    "put": put,
    "put_empty": put_empty,
    "get": get,
    "list": keys,
    # Azure drops uncommitted blocks by itself after a week; nobody can see or end them.
    "uploads": lambda: [],
    "destroy": lambda: client.delete_container(),
})
