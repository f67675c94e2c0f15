#!/usr/bin/python3
# The world outside: once its device in0 is there, answers DNS (every A is 192.0.2.1) and, on TCP and UDP port 80, who asks;
# `knock ADDR` over TCP: whether ADDR can be reached on port 8000. Says `ready` first.
import socket, struct, subprocess, threading, time

ADDR, HOST = "192.0.2.1", "192.0.2.2"


def run(words):
    subprocess.run(words.split(), check=True)


while "in0" not in [name for _, name in socket.if_nameindex()]:
    time.sleep(0.01)
run("ip link set lo up")
run(f"ip addr add {ADDR}/24 dev in0")
run("ip link set in0 up")
run(f"ip route add 100.64.0.0/10 via {HOST}")


def answer(query):
    end = 12
    while query[end]:
        end += 1 + query[end]
    kind = struct.unpack_from(">H", query, end + 1)[0]
    header = query[:2] + struct.pack(">5H", 0x8180, 1, int(kind == 1), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton(ADDR)
    return header + query[12 : end + 5] + (record if kind == 1 else b"")


def datagrams(port, reply):
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind((ADDR, port))
    while True:
        message, peer = asked.recvfrom(4096)
        asked.sendto(reply(message, peer), peer)


def knock(addr):
    try:
        socket.create_connection((addr, 8000), 1).close()
        return b"open"
    except OSError:
        return b"shut"


threading.Thread(target=datagrams, args=(53, lambda query, _: answer(query)), daemon=True).start()
threading.Thread(target=datagrams, args=(80, lambda _, peer: peer[0].encode()), daemon=True).start()
listening = socket.create_server((ADDR, 80))
print("ready", flush=True)
while True:
    connection, peer = listening.accept()
    words = connection.recv(100).decode().split()
    connection.sendall(knock(words[1]) if words[0] == "knock" else peer[0].encode())
    connection.close()
