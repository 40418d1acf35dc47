"""Holds a network namespace open and makes connections in it: netns.Machine starts it and sends [host, port, timeout] for each, the
answer is the socket itself or an error number. It ends when the other end is gone, and the namespace with it."""
import array
import errno
import json
import socket
import sys


def main():
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.send(b"ready")
    while True:
        request = requests.recv(4096)
        if not request:
            return
        host, port, timeout = json.loads(request)
        try:
            with socket.create_connection((host, port), timeout) as made:
                made.settimeout(None)
                requests.sendmsg([b"0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]).tobytes())])
        except OSError as error:
            requests.send(str(error.errno or errno.ETIMEDOUT).encode())


main()
