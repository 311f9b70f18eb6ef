# On the host: watches for frames that carry a mark of this salt (its argument). It says for each
# where it was seen, as `LINK in|out NAME`. `in` means that it was received from the link. `out`
# means that it was sent to the link. A machine's frames are always `in` on its own tap. Anything
# else is the way that they took from there.
import re
import socket
import sys

ETH_P_ALL, OUTGOING, SO_RCVBUFFORCE = 3, 4, 33
MARK = re.compile(rb"%s:([a-z0-9-]+);" % sys.argv[1].encode())

spy = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
# Whatever else is on the host's links meanwhile: none is to be missed.
spy.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
print("ready", flush=True)
while True:
    frame, (link, _, way, _, _) = spy.recvfrom(2048)
    found = MARK.search(frame)
    if found:
        print(link, "out" if way == OUTGOING else "in", found[1].decode(), flush=True)
