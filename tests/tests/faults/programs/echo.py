#!/usr/bin/python3
# Sends back whatever comes, over TCP, on both families.
import asyncio
import sys


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(echo, None, int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


asyncio.run(main())
