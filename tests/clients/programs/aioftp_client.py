"""Python's aioftp: a session for each step; it begins the data handshake before it sends the command."""

import asyncio
import contextlib
import ssl

import aioftp

from _steps import CA, HOST, IN, MODE, OUT, PART, PASSWORD, PORT, TIME, TLS, USER, Cannot, step


@contextlib.asynccontextmanager
async def session():
    context = ssl.create_default_context(cafile=CA)
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[TLS]
    context.minimum_version = context.maximum_version = version
    client = aioftp.Client(ssl=context if MODE == "implicit" else None, socket_timeout=8)
    await client.connect(HOST, PORT)
    if MODE == "explicit":
        await client.upgrade_to_tls(context)
    await client.login(USER, PASSWORD)
    yield client
    await client.quit()


async def upload(local, stream, offset=0):
    with open(f"{IN}/{local}", "rb") as source:
        source.seek(offset)
        async with stream as opened:
            while block := source.read(65536):
                await opened.write(block)


async def download(client, remote, local, mode="wb", offset=0):
    with open(f"{OUT}/{local}", mode) as target:
        async with client.download_stream(remote, offset=offset) as stream:
            async for block in stream.iter_by_block():
                target.write(block)


def run(action):
    async def whole():
        async with session() as client:
            await action(client)

    return lambda: asyncio.run(asyncio.wait_for(whole(), 20))


def put(local, remote):
    return run(lambda client: upload(local, client.upload_stream(remote)))


async def two(client):
    await upload("medium.bin", client.upload_stream("made/one.bin"))
    await upload("small.bin", client.upload_stream("made/two.bin"))


def listing(name, command):
    async def names(client):
        with open(f"{OUT}/{name}.txt", "w") as target:
            async for path, _ in client.list("listed", raw_command=command):
                target.write(f"{path}\n")

    return run(names)


async def abort(client):
    # Not `async with`: its end waits for the 226 that `abort` has read.
    stream = await client.download_stream("large.bin")
    await stream.read(65536)
    await client.abort()
    stream.close()
    await client.get_current_directory()


def nlst():
    raise Cannot("aioftp never sends NLST")


for name, action in {
    "login": run(lambda client: client.get_current_directory()),
    "mkdir": run(lambda client: client.make_directory("made")),
    "small": put("small.bin", "made/small.bin"),
    "zero": put("zero.bin", "made/zero.bin"),
    "large": put("large.bin", "made/large.bin"),
    "two": run(two),
    "get": run(lambda client: download(client, "large.bin", "large.bin")),
    "list": listing("list", "LIST"),
    "nlst": nlst,
    "mlsd": listing("mlsd", "MLSD"),
    "resume-get": run(lambda client: download(client, "medium.bin", "medium.bin", "ab", PART)),
    "resume-put": run(lambda client: upload("medium.bin", client.upload_stream("resume.bin", offset=PART), PART)),
    "append": run(lambda client: upload("medium.bin", client.append_stream("append.bin"), PART)),
    "rename": run(lambda client: client.rename("rename-me", "made/renamed")),
    "time": run(lambda client: client.command(f"MFMT {TIME} made/small.bin", "213")),
    "delete": run(lambda client: client.remove_file("delete-me")),
    "rmdir": run(lambda client: client.remove_directory("remove-me")),
    "abort": run(abort),
}.items():
    step(name, action)
