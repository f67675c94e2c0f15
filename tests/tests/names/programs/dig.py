#!/usr/bin/python3
# Asks a DNS server and prints what it says: dig.py NAME TYPE [SERVER [PORT]]. Ends with 1 if nothing came.
import ipaddress, os, socket, struct, sys

TYPES = {"A": 1, "NS": 2, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
NAMES = {number: name for name, number in TYPES.items()}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def question(name, kind, number):
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + encoded + struct.pack(">2H", TYPES[kind], 1)


def read_name(message, at):
    labels, after = [], None
    while message[at]:
        if message[at] >= 0xC0:
            after = after or at + 2
            at = struct.unpack_from(">H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels) + ".", after or at + 1


def read_data(message, kind, at, length):
    data = message[at : at + length]
    if kind in ("A", "AAAA"):
        return str(ipaddress.ip_address(data))
    if kind in ("NS", "PTR", "SOA"):
        return read_name(message, at)[0]
    if kind == "SRV":
        return "%d %d %d " % struct.unpack_from(">3H", message, at) + read_name(message, at + 6)[0]
    if kind == "TXT":
        texts = []
        while data:
            texts.append(data[1 : 1 + data[0]].decode())
            data = data[1 + data[0] :]
        return " ".join(texts)
    return data.hex()


def tell(message):
    _, flags, questions, *counts = struct.unpack_from(">6H", message)
    print(RCODES.get(flags & 15, flags & 15), "truncated" if flags & 0x0200 else "")
    at = 12
    for _ in range(questions):
        at = read_name(message, at)[1] + 4
    for section, count in zip(("answer", "authority", "additional"), counts):
        for _ in range(count):
            name, at = read_name(message, at)
            kind, _, _, length = struct.unpack_from(">2HIH", message, at)
            kind = NAMES.get(kind, str(kind))
            print(section, name, kind, read_data(message, kind, at + 10, length))
            at += 10 + length


name, kind, *rest = sys.argv[1:]
server, port = (rest + ["169.254.53.53", "53"][len(rest) :])[:2]
number = int.from_bytes(os.urandom(2), "big")
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(8)
asking.connect((server, int(port)))
asking.send(question(name, kind, number))
try:
    answer = asking.recv(65535)
except OSError as error:
    sys.exit(f"no answer: {error}")
assert struct.unpack_from(">H", answer)[0] == number, "another question's answer"
tell(answer)
