# Numbered datagrams: who answers them, and what becomes of those that are sent.
import json
import select
import socket
import sys
import time

PORT = 7000


def open_socket(addr):
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((addr, 0 if addr in ("0.0.0.0", "::") else PORT))
    return opened


def echo(addr):
    """Answers each datagram with its sender's address and itself, and tells of it."""
    opened = open_socket(addr)
    print("ready", flush=True)
    while True:
        data, sender = opened.recvfrom(2048)
        print(sender[0], data.decode(), flush=True)
        opened.sendto(sender[0].encode() + b" " + data, sender)


def send(addr, count, pause_us, patience_s):
    """Sends datagrams and tells, in the order of their coming, whose answers came."""
    opened = open_socket("::" if ":" in addr else "0.0.0.0")
    sent, answered, seen_as, shortest = {}, [], "", None
    due = time.monotonic()
    end = None
    while end is None or (time.monotonic() < end and len(answered) < count):
        now = time.monotonic()
        if len(sent) < count and now >= due:
            sent[len(sent)] = now
            try:
                opened.sendto(str(len(sent) - 1).encode(), (addr, PORT))
            except OSError as error:
                # No route, or nobody at that address: as lost as any other.
                print(error, file=sys.stderr)
            due += pause_us / 1e6
        if len(sent) == count and end is None:
            end = now + patience_s
        wait = max(0, (due if len(sent) < count else end) - time.monotonic())
        if not select.select([opened], [], [], wait)[0]:
            continue
        try:
            data, _ = opened.recvfrom(2048)
        except OSError as error:
            print(error, file=sys.stderr)
            continue
        seen_as, number = data.decode().split()
        took = time.monotonic() - sent[int(number)]
        shortest = took if shortest is None else min(shortest, took)
        answered.append(int(number))
    print(json.dumps({"answered": answered, "seen_as": seen_as, "shortest_s": shortest}))


if sys.argv[1] == "echo":
    echo(sys.argv[2])
else:
    send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
