"""A layer 4 load balancer, as `ip netns exec … balancer.py`, for the Services of one StatefulSet.

Standard input has one JSON object per line: first {"proxy": bool, "services": [{"address", "port", "target", "pod",
"kind"}]}, where `pod` is null for ports that are spread over the ready pods and `kind` is control or data; then
{"pods": {"0": ADDRESS}, "ready": [0, …]} whenever something changes. Each is answered with
{"connections": {"0": {"control": n, "data": n}}} on standard output. A control port of one pod that is not ready is
closed, as its clients would find it; whom it had accepted before that has reached the pod when the answer comes.
Connections reach the pods from the balancer's own address, with a PROXY header (version 2) before them if asked to;
running ones are never touched.
"""

import asyncio
import ipaddress
import itertools
import json
import select
import struct
import sys

CHUNK = 1 << 16
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Balancer:
    def __init__(self, proxy):
        self.proxy = proxy
        self.pods, self.ready, self.connections = {}, [], {}
        self.turns = itertools.count()
        # asyncio forgets tasks whose connection is gone, and with them the other half of the pair.
        self.tasks = set()
        # Control ports of one pod, with their listening sockets while it is ready.
        self.own = []
        # Connections that were accepted here and have not reached their pod yet.
        self.on_their_way = set()

    async def serve(self, services):
        for service in services:
            if service["kind"] == "control" and service["pod"] is not None:
                self.own.append([service, None])
            else:
                await self.listen(service)

    async def listen(self, service):
        return await asyncio.start_server(self.handler(service), service["address"], service["port"], backlog=512)

    async def change(self, state):
        self.pods, self.ready = state["pods"], state["ready"]
        for entry in self.own:
            service, socket = entry
            if (service["pod"] in self.ready) == (socket is not None):
                continue
            if socket:
                # Those that the kernel has accepted, too: where addresses are translated, nobody stands between.
                while select.select(socket.sockets, [], [], 0)[0]:
                    await asyncio.sleep(0)
                socket.close()
                # Turns of the loop from an accepted connection to its handler.
                for _ in range(10):
                    await asyncio.sleep(0)
                if self.on_their_way:
                    await asyncio.wait(list(self.on_their_way))
            entry[1] = None if socket else await self.listen(service)

    def handler(self, service):
        async def handle(reader, writer):
            task = asyncio.current_task()
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            pod = service["pod"]
            kind = service["kind"]
            if pod is None:
                if not self.ready:
                    return writer.transport.abort()
                pod = self.ready[next(self.turns) % len(self.ready)]
            arrived = asyncio.get_running_loop().create_future()
            self.on_their_way.add(arrived)
            try:
                upstream = await asyncio.open_connection(self.pods[str(pod)], service["target"])
            except (OSError, KeyError):
                return writer.transport.abort()
            finally:
                self.on_their_way.discard(arrived)
                arrived.set_result(None)
            counted = self.connections.setdefault(str(pod), {"control": 0, "data": 0})
            counted[kind] += 1
            if self.proxy:
                upstream[1].write(_header(writer))
            await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer))
            for each in (writer, upstream[1]):
                each.close()

        return handle


def _header(writer):
    """PROXY protocol 2, TCP over IPv4."""
    source, destination = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    addresses = b"".join(ipaddress.ip_address(each[0]).packed for each in (source, destination))
    body = addresses + struct.pack("!HH", source[1], destination[1])
    return SIGNATURE + b"\x21\x11" + struct.pack("!H", len(body)) + body


async def _copy(reader, writer):
    """Bytes and ends as they come: an end as an end, a reset as a reset."""
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    setup = json.loads(await lines.readline())
    balancer = Balancer(setup["proxy"])
    await balancer.serve(setup["services"])
    print("{}", flush=True)
    while line := await lines.readline():
        await balancer.change(json.loads(line))
        print(json.dumps({"connections": balancer.connections}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
