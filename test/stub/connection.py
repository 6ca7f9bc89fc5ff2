"""connection.py: what happens on sockets, in one thread over epoll: Loop, and
Connection, which reads requests and sends what the server replies.

Written by hand rather than with asyncio: it has to be much faster than what is
measured with it, and to break connections in ways that libraries prevent.
"""

import heapq
import itertools
import select
import socket
import ssl
import struct
import time

from http11 import Answer, NotHttp, head_of, read_request, wants_continue

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
CHUNK = 65536
TURN = 16                       # chunks that one connection may send before others have a go
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Loop:
    """What happens on descriptors, and what falls due."""

    def __init__(self):
        self.epoll = select.epoll()
        self.watched = {}
        self.timers = []
        self.order = itertools.count()

    def watch(self, fd, mask, handler):
        self.watched[fd] = handler
        self.epoll.register(fd, mask)

    def rewatch(self, fd, mask):
        self.epoll.modify(fd, mask)

    def forget(self, fd):
        if self.watched.pop(fd, None):
            self.epoll.unregister(fd)

    def after(self, seconds, call):
        """A timer; set its call to None and it does nothing."""
        timer = [time.monotonic() + seconds, next(self.order), call]
        heapq.heappush(self.timers, timer)
        return timer

    def run(self):
        while True:
            for fd, mask in self.epoll.poll(self.nap()):
                handler = self.watched.get(fd)
                if handler:
                    handler(mask)
            self.run_timers()

    def nap(self):
        if not self.timers:
            return -1
        return max(0, self.timers[0][0] - time.monotonic())

    def run_timers(self):
        while self.timers and self.timers[0][0] <= time.monotonic():
            call = heapq.heappop(self.timers)[2]
            if call:
                call()


class Connection:
    """One client: reads a request, sends what the server replies, again."""

    def __init__(self, server, sock, number, is_control):
        self.server = server
        self.loop = server.loop
        self.sock = sock
        self.fd = sock.fileno()
        self.number = number
        self.is_control = is_control
        self.is_tls = isinstance(sock, ssl.SSLSocket)
        self.shaken = not self.is_tls
        self.mask = READ
        self.inbox = bytearray()
        self.told_to_continue = False
        self.request = None
        self.reply = None
        self.out = b""
        self.sent = 0
        self.timer = None
        self.loop.watch(self.fd, READ, self.on_event)

    # ---- what comes in ----

    def on_event(self, mask):
        if not self.shaken and not self.shake_hands():
            return
        if mask & WRITE and self.reply:
            self.write()
        if mask & ~WRITE and self.sock:
            self.read()
        self.serve()

    def shake_hands(self):
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.want(READ)
        except ssl.SSLWantWriteError:
            self.want(WRITE)
        except OSError as error:
            self.server.note_tls_failure(error)
            self.close("close")
        else:
            self.shaken = True
            self.want(READ)
        return self.shaken

    def read(self):
        try:
            data = self.sock.recv(CHUNK)
            while data and self.is_tls and self.sock.pending():
                self.inbox += data
                data = self.sock.recv(CHUNK)
        except LATER:
            return
        except OSError as error:
            if isinstance(error, ssl.SSLError):
                self.server.note_tls_failure(error)
            data = b""
        if data:
            self.inbox += data
        else:
            self.lost()

    def serve(self):
        """Answer what is there, one request after the other."""
        while self.sock and not self.reply and self.inbox:
            try:
                request, used = read_request(self.inbox)
            except NotHttp:
                return self.refuse()
            if not request:
                return self.tell_to_continue()
            del self.inbox[:used]
            self.told_to_continue = False
            self.begin(request)
        return None

    def refuse(self):
        answer = Answer(400, b"Bad Request")
        try:
            self.sock.send(head_of(answer, len(answer.body), False) + answer.body)
        except OSError:
            pass
        self.close("close")

    def tell_to_continue(self):
        if not self.told_to_continue and wants_continue(self.inbox):
            self.told_to_continue = True
            try:
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                self.close("close")

    # ---- what goes out ----

    def begin(self, request):
        request.connection = self.number
        request.at = time.time()
        self.request = request
        self.sent = 0
        self.out = b""
        self.reply = self.server.reply_to(request, self.is_control)
        if self.reply.delay:
            self.timer = self.loop.after(self.reply.delay, self.go)
        else:
            self.send()

    def go(self):
        """A delay is over."""
        self.timer = None
        self.send()
        self.serve()

    def hurry(self):
        """Whoever has delayed us doesn't want to any longer."""
        if self.timer and self.timer[2] == self.go:
            self.timer[2] = None
            self.go()

    def send(self):
        if self.reply.drip:
            self.drip()
        else:
            self.write()

    def drip(self):
        self.timer = None
        self.out = self.out or next(self.reply.chunks, b"")
        if not self.out:
            self.finish()
            return self.serve()
        try:
            sent = self.sock.send(self.out[:1])
        except LATER:
            sent = 0
        except OSError:
            return self.lost()
        self.sent += sent
        self.out = self.out[sent:]
        self.timer = self.loop.after(self.reply.drip, self.drip)
        return None

    def write(self):
        for _ in range(TURN):
            self.out = self.out or memoryview(next(self.reply.chunks, b""))
            if not self.out:
                return self.finish()
            try:
                sent = self.sock.send(self.out)
            except LATER:
                break
            except OSError:
                return self.lost()
            self.sent += sent
            self.out = self.out[sent:]
        return self.want(READ | WRITE)

    def want(self, mask):
        if self.mask != mask:
            self.mask = mask
            self.loop.rewatch(self.fd, mask)

    # ---- ends ----

    def finish(self):
        """All was sent that was to be sent."""
        end = self.reply.end
        self.want(READ)
        if end == "hang":
            return
        self.settle(not self.reply.cut)
        if end != "keep":
            self.close(end)

    def settle(self, whole):
        request, reply = self.request, self.reply
        self.request = self.reply = None
        self.server.settled(request, reply, whole, self.sent)

    def lost(self):
        """The other side is gone."""
        if self.reply:
            self.settle(False)
        self.close("close")

    def close(self, how):
        if not self.sock:
            return
        if self.timer:
            self.timer[2] = None
        self.loop.forget(self.fd)
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif self.is_tls and self.shaken:
            self.say_goodbye()
        self.sock.close()
        self.sock = None
        self.server.gone(self)

    def say_goodbye(self):
        """TLS's close_notify; whether the other side has one too is its affair."""
        try:
            self.sock.unwrap()
        except (OSError, ValueError):
            pass
