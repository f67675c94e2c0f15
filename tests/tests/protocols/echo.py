# Answers datagrams and connections; bound to no address, as most servers are.
import socket
import threading

PORT = 5000
UDP_NO_CHECK6_RX = 102


def datagrams():
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    server.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
    server.bind(("::", PORT))
    while True:
        data, client = server.recvfrom(65535)
        server.sendto(data, client)


def connections():
    server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, _ = server.accept()
        connection.sendall(connection.recv(2000))
        connection.close()


threading.Thread(target=datagrams).start()
connections()
