# ADDRESS PROBE...: sends what is not plain, and prints how each probe went, a line each.
import errno
import os
import socket
import struct
import sys

OPEN, CLOSED = 5000, 5001
PATIENCE_S = 5
IP_MTU_DISCOVER, IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU, PMTUDISC_DO = 10, 14, 23, 24, 2
IPV6_HOPOPTS, IPV6_DSTOPTS = 54, 59
SO_NO_CHECK, UDP_NO_CHECK6_TX, UDP_SEGMENT = 11, 101, 103

address = sys.argv[1]
v6 = ":" in address
family = socket.AF_INET6 if v6 else socket.AF_INET
ip = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP


def datagrams(port=OPEN):
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(PATIENCE_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    client.connect((address, port))
    return client


def echoed(client, data):
    client.send(data)
    return "same" if client.recv(65535) == data else "different"


# Datagrams that must come in pieces both ways, the first of them as the first packet of a flow. The
# second flow may be opened by the kernel itself.
def pieces():
    first, second = datagrams(), datagrams()
    sizes = [(first, 8192), (first, 60000), (first, 1373), (second, 8192)]
    return " ".join(echoed(client, os.urandom(size)) for client, size in sizes)


def long_ping():
    client = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    client.settimeout(PATIENCE_S)
    client.connect((address, 0))
    data = os.urandom(4000)
    client.send(struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0, 7) + data)
    return "same" if client.recv(65535)[8:] == data else "different"


# The first flow is decided by the router, the others may be opened by the kernel itself.
def closed_port():
    return " ".join(refusal() for _ in range(3))


def refusal():
    client = datagrams(CLOSED)
    client.send(b"anyone?")
    try:
        return str(client.recv(100))
    except OSError as error:
        return errno.errorcode[error.errno]


# The server is one hop away.
def one_hop():
    client = datagrams()
    client.setsockopt(ip, socket.IPV6_UNICAST_HOPS if v6 else socket.IP_TTL, 1)
    return echoed(client, b"near")


def too_big():
    client = datagrams()
    client.setsockopt(ip, IPV6_MTU_DISCOVER if v6 else IP_MTU_DISCOVER, PMTUDISC_DO)
    try:
        client.send(bytes(1400))
        refused = "sent"
    except OSError as error:
        refused = errno.errorcode[error.errno]
    mtu = client.getsockopt(ip, IPV6_MTU if v6 else IP_MTU)
    return f"{refused} {mtu} {echoed(client, bytes(1352))}"


def segment_size():
    client = socket.create_connection((address, OPEN), PATIENCE_S)
    headers = (40 if v6 else 20) + 20
    timestamps = 12
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + headers + timestamps


# One super-packet as the first packet of its flow.
def super_packet():
    client = datagrams()
    client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    sent = os.urandom(20000)
    client.send(sent)
    received = b"".join(client.recv(65535) for _ in range(20))
    return "same" if received == sent else "different"


def no_checksum():
    client = datagrams()
    if v6:
        client.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_TX, 1)
    else:
        client.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    return echoed(client, b"unchecked")


# Options for every hop and for the destination, all padding, ahead of the datagram. For root only.
def extension_headers():
    client = datagrams()
    padding = bytes([0, 0, 1, 4, 0, 0, 0, 0])
    client.setsockopt(ip, IPV6_HOPOPTS, padding)
    client.setsockopt(ip, IPV6_DSTOPTS, padding)
    return echoed(client, b"optional") + " " + echoed(client, os.urandom(8192))


for probe in sys.argv[2:]:
    try:
        print(probe, globals()[probe]())
    except OSError as error:
        print(probe, "failed:", error)
