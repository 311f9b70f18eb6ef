# Beside an attacker: says whom it hears, itself first.
import select
import socket


def at(kind, port):
    one = socket.socket(socket.AF_INET, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("", port))
    if kind == socket.SOCK_STREAM:
        one.listen()
    return one


heard = [at(socket.SOCK_STREAM, port) for port in (22, 80, 443, 8000)]
heard += [at(socket.SOCK_DGRAM, port) for port in (53, 5353, 8000)]
socket.create_connection(("127.0.0.1", 8000))
while True:
    for one in select.select(heard, [], [])[0]:
        if one.type == socket.SOCK_STREAM:
            other, who = one.accept()
            other.settimeout(1)
            try:
                other.recv(100)
                other.send(b"heard\n")
            except OSError:
                pass
            other.close()
        else:
            who = one.recvfrom(100)[1]
        print("heard", *who, flush=True)
