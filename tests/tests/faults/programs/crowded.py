#!/usr/bin/python3
# Sends back whatever comes to PORT, over TCP and UDP, and writes a numbered line every few
# milliseconds.
import asyncio
import resource
import sys

PORT = int(sys.argv[1])
PAUSE_S = 0.01

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def echo(reader, writer):
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def main():
    loop = asyncio.get_running_loop()
    # Both families come to the one socket.
    await loop.create_datagram_endpoint(Echo, local_addr=("::", PORT))
    await asyncio.start_server(echo, None, PORT, backlog=1024)
    number = 0
    while True:
        number += 1
        print("line", number, flush=True)
        await asyncio.sleep(PAUSE_S)


asyncio.run(main())
