#!/usr/bin/python3
# Sends datagrams under another's address to ADDRESS PORT: as an instance may try (the default), or with raw packets.
import socket
import struct
import sys

IP_FREEBIND, IPV6_FREEBIND = 15, 78
COUNT = 20
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
sent = 0


def udp():
    return struct.pack("!HHHH", 4444, port, 9, 0) + b"x"


def raw_v4(sender):
    payload = udp()
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, socket.IPPROTO_UDP, 0,
                         socket.inet_aton(source), socket.inet_aton(target))
    sender.sendto(header + payload, (target, 0))


def raw_v6(sender):
    payload = udp()
    header = struct.pack("!IHBB16s16s", 6 << 28, len(payload), socket.IPPROTO_UDP, 64,
                         socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, target))
    sender.sendto(header + payload, (target, 0))


family = socket.AF_INET6 if ":" in target else socket.AF_INET
for _ in range(COUNT):
    try:
        if sys.argv[4:] == ["raw"]:
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
                (raw_v6 if family == socket.AF_INET6 else raw_v4)(sender)
        else:
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                level, option = (socket.IPPROTO_IPV6, IPV6_FREEBIND) if family == socket.AF_INET6 else (0, IP_FREEBIND)
                sender.setsockopt(level, option, 1)
                sender.bind((source, 4444))
                sender.sendto(b"x", (target, port))
        sent += 1
    except OSError as error:
        print(error, file=sys.stderr)
print(sent)
