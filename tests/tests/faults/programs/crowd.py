#!/usr/bin/python3
# Loads `crowd.matrix PORT`: BUSY connections that ask all the time, IDLE ones that are silent until
# the end, and one UDP socket that asks all the time. Says `ready` once all are open; a line of input
# ends it: then each idle connection asks once, and the sums are told.
import asyncio
import resource
import socket
import sys

PORT, BUSY, IDLE = (int(word) for word in sys.argv[1:4])
# What is answered later than this has failed: far above what a start of the daemon takes.
PATIENCE_S = 10
PAUSE_S = 0.02

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
sums = {"asked": 0, "resets": 0, "failed": 0, "datagrams": 0, "lost": 0}
stop = asyncio.Event()


async def ask(reader, writer, word):
    sums["asked"] += 1
    try:
        writer.write(word)
        answer = await asyncio.wait_for(reader.readexactly(len(word)), PATIENCE_S)
        if answer == word:
            return True
    except (ConnectionError, asyncio.IncompleteReadError):
        sums["resets"] += 1
        return False
    except (OSError, asyncio.TimeoutError):
        pass
    sums["failed"] += 1
    return False


async def busy(number):
    reader, writer = await asyncio.open_connection("crowd.matrix", PORT)
    opened.release()
    word = b"%015d\n" % number
    while not stop.is_set() and await ask(reader, writer, word):
        await asyncio.sleep(PAUSE_S)


async def idle(number):
    reader, writer = await asyncio.open_connection("crowd.matrix", PORT)
    opened.release()
    await stop.wait()
    await ask(reader, writer, b"idle %010d\n" % number)


async def datagrams():
    loop = asyncio.get_running_loop()
    address = (await loop.getaddrinfo("crowd.matrix", PORT, type=socket.SOCK_DGRAM))[0]
    asking = socket.socket(address[0], socket.SOCK_DGRAM)
    asking.setblocking(False)
    asking.connect(address[4])
    opened.release()
    number = 0
    while not stop.is_set():
        number += 1
        word = b"%d" % number
        await loop.sock_sendall(asking, word)
        sums["datagrams"] += 1
        try:
            answer = await asyncio.wait_for(loop.sock_recv(asking, 64), PATIENCE_S)
        except (OSError, asyncio.TimeoutError):
            answer = b""
        sums["lost"] += answer != word
        await asyncio.sleep(PAUSE_S)


async def main():
    global opened
    opened = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(datagrams())]
    # A few at a time: a listener's backlog is short.
    for first in range(0, IDLE, 50):
        batch = range(first, min(first + 50, IDLE))
        tasks += [asyncio.create_task(idle(number)) for number in batch]
        for _ in batch:
            await opened.acquire()
    tasks += [asyncio.create_task(busy(number)) for number in range(BUSY)]
    for _ in range(BUSY + 1):
        await opened.acquire()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    stop.set()
    await asyncio.gather(*tasks)
    print(" ".join(f"{name}={sum}" for name, sum in sums.items()), flush=True)


asyncio.run(main())
