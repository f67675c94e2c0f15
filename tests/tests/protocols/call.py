# Calls echo.matrix by every protocol over one family; prints what came back, a line each.
import os
import socket
import struct
import sys
import time

PORT = 5000
PATIENCE_S = 3

v6 = sys.argv[1] == "6"
family = socket.AF_INET6 if v6 else socket.AF_INET
[*_, (address, *_)] = socket.getaddrinfo("echo.matrix", PORT, family, socket.SOCK_DGRAM)[0]


def datagrams():
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(PATIENCE_S)
    # A connected socket takes answers from the address it called only.
    client.connect((address, PORT))
    answers = []
    for text in (b"first", b"second"):
        client.send(text)
        answers.append(client.recv(100).decode())
    return " ".join(answers)


def connection():
    with socket.create_connection((address, PORT), PATIENCE_S) as client:
        client.sendall(b"stream")
        return client.recv(100).decode()


def ping():
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    client = socket.socket(family, socket.SOCK_DGRAM, protocol)
    client.settimeout(PATIENCE_S)
    client.connect((address, 0))
    # Type, code, checksum (the kernel's business), identifier (too), sequence.
    client.send(struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0, 7) + b"payload")
    answer = client.recv(100)
    kind, _, _, _, sequence = struct.unpack("!BBHHH", answer[:8])
    return f"{kind} {sequence} {answer[8:].decode()}"


for call in (datagrams, connection, ping):
    try:
        print(call.__name__, call())
    except OSError as error:
        print(call.__name__, "failed:", error)
