#!/usr/bin/python3
# Does what its input says, a line at a time, and answers each line with one:
#   names NAME      the addresses of NAME
#   open NAME PORT  a TCP connection to one address of NAME
#   port            the port that it comes from
#   say WORD        WORD over that connection and back
#   hold NAME PORT COUNT  so many connections, which stay open, or fewer if one is refused: how
#                         many, and the milliseconds that the last one took
import socket
import sys
import time

PATIENCE_S = 30
connection = None
held = []


def names(name):
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return " ".join(sorted(address[0] for *_, address in found))


def open(name, port):
    global connection
    connection = socket.create_connection((name, int(port)), timeout=PATIENCE_S)
    return connection.getpeername()[0]


def port():
    return connection.getsockname()[1]


def say(word):
    data = word.encode()
    connection.sendall(data)
    heard = b""
    while len(heard) < len(data):
        some = connection.recv(len(data) - len(heard))
        if not some:
            raise ConnectionResetError("closed")
        heard += some
    return heard.decode()


def hold(name, port, count):
    already = len(held)
    while len(held) - already < int(count):
        began = time.monotonic()
        try:
            held.append(socket.create_connection((name, int(port)), timeout=PATIENCE_S))
        except OSError:
            break
    return f"{len(held) - already} {(time.monotonic() - began) * 1000:.0f}"


for line in sys.stdin:
    verb, *words = line.split()
    began = time.monotonic()
    try:
        said = {"names": names, "open": open, "port": port, "say": say, "hold": hold}[verb](*words)
    except OSError as error:
        said = f"failed after {time.monotonic() - began:.1f} s: {error!r}"
    print(said, flush=True)
