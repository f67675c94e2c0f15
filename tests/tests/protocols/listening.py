# Ends well if the echo server of this instance listens.
import socket

socket.create_connection(("127.0.0.1", 5000), 1)
