"""server.py: sockets, connections and time, in one thread over epoll.

Written by hand rather than with asyncio: it has to be much faster than what is
measured with it, and to break connections in ways that libraries prevent.
"""

import heapq
import itertools
import os
import select
import socket
import ssl
import struct
import sys
import time
import traceback

from control import PREFIX as CONTROL
from faults import delivers, faulty_reply, whole_reply
from http11 import Answer, NotHttp, head_of, json_answer, read_request, wants_continue

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
CHUNK = 65536
TURN = 16                       # chunks that one connection may send before others have a go
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stop(BaseException):
    """A signal asks to stop."""


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


class Stats:
    """Counters since the start or the last reset."""

    def __init__(self):
        self.requests = 0           # but those of the control interface
        self.faulted = 0            # of them, by a rule
        self.limited = 0            # of them, for being too fast
        self.in_flight = 0          # received, and their answer isn't out yet
        self.max_in_flight = 0
        self.cut = 0                # answers that did not go out whole
        self.connections = 0        # ever
        self.max_open = 0
        self.tls_failures = 0       # handshakes
        self.last_tls_failure = None
        self.by_status = {}
        self.bytes_sent = 0

    def show(self, server):
        return {**vars(self), "ok": server.workspace.accepted,
                "open_connections": server.open_connections()}

    def begin(self, reply):
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        if reply.fault:
            self.faulted += 1
        if reply.status:
            self.by_status[reply.status] = self.by_status.get(reply.status, 0) + 1

    def end(self, whole, sent):
        self.in_flight -= 1
        self.bytes_sent += sent
        if not whole:
            self.cut += 1


class Pace:
    """Slack's limit: so many messages a second and place, and short bursts."""

    def __init__(self):
        self.set({})

    def set(self, spec):
        self.per_second = spec.get("per_second") or 0
        self.burst = spec.get("burst", 1)
        self.retry_after = spec.get("retry_after", 1)
        self.buckets = {}

    def allows(self, request):
        if not self.per_second:
            return True
        place, now = self.place(request), time.monotonic()
        tokens, then = self.buckets.get(place, (self.burst, now))
        tokens = min(self.burst, tokens + (now - then) * self.per_second)
        allowed = tokens >= 1
        self.buckets[place] = (tokens - allowed, now)
        return allowed

    def place(self, request):
        if not request.path.startswith("/api/"):
            return request.path
        payload = request.json()
        if not isinstance(payload, dict):
            payload = request.form()
        return str(payload.get("channel", request.path)).removeprefix("#")

    def answer(self, request):
        headers = (("retry-after", self.retry_after),)
        if request.path.startswith("/api/"):
            return json_answer({"ok": False, "error": "ratelimited"}, 429, headers)
        return json_answer({"retry_after": self.retry_after, "ok": False,
                            "error": "rate_limited"}, 429, headers)


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
            self.sock.send(head_of(answer, "", len(answer.body), False) + answer.body)
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
            self.out = self.out or next(self.reply.chunks, b"")
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


class Server:
    def __init__(self, workspace, faults, journal, cert, key):
        self.loop = Loop()
        self.workspace = workspace
        self.faults = faults
        self.journal = journal
        self.control = None
        self.pace = Pace()
        self.stats = Stats()
        self.connections = set()
        self.mute = []              # accepted, and never spoken to
        self.numbers = itertools.count(1)
        self.request_id = os.urandom(8).hex()
        self.tls = tls_context(cert, key) if cert else None
        self.mode = "open"
        self.listener = None
        self.port = self.control_port = None

    def listen(self, port, control_port):
        control = bind(control_port)
        self.control_port = control.getsockname()[1]
        self.loop.watch(control.fileno(), READ, lambda _: self.accept(control, True))
        self.port = port
        self.open_listener()

    def open_listener(self):
        self.listener = bind(self.port)
        self.port = self.listener.getsockname()[1]
        self.loop.watch(self.listener.fileno(), READ,
                        lambda _: self.accept(self.listener, False))

    def close_listener(self):
        self.loop.forget(self.listener.fileno())
        self.listener.close()
        self.listener = None

    def run(self):
        self.loop.run()

    # ---- connections ----

    def accept(self, listener, is_control):
        for _ in range(64):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                return          # out of descriptors, or gone already
            self.welcome(sock, is_control)

    def welcome(self, sock, is_control):
        if not is_control:
            self.stats.connections += 1
        if self.mode == "silent" and not is_control:
            self.mute.append(sock)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls and not is_control:
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False,
                                        suppress_ragged_eofs=True)
        self.connections.add(Connection(self, sock, next(self.numbers), is_control))
        self.stats.max_open = max(self.stats.max_open, self.open_connections())

    def open_connections(self):
        return len(self.mute) + sum(1 for each in self.connections if not each.is_control)

    def gone(self, connection):
        self.connections.discard(connection)

    def note_tls_failure(self, error):
        self.stats.tls_failures += 1
        self.stats.last_tls_failure = str(error)

    def set_mode(self, mode):
        if mode not in ("open", "closed", "silent"):
            raise ValueError(f"no such mode: {mode}")
        for sock in self.mute:
            sock.close()
        self.mute = []
        self.mode = mode
        if mode == "closed":
            self.disconnect(all_of_them=True)
            if self.listener:
                self.close_listener()
        elif not self.listener:
            self.open_listener()

    def disconnect(self, all_of_them=False):
        for connection in list(self.connections):
            if connection.is_control or connection.reply and not all_of_them:
                continue
            connection.lost()

    def reset(self):
        self.workspace.reset()
        self.faults.set([])
        self.pace.set({})
        in_flight = self.stats.in_flight
        self.stats = Stats()
        self.stats.in_flight = self.stats.max_in_flight = in_flight
        self.journal.enabled = True
        self.journal.reset()
        self.set_mode("open")

    # ---- requests ----

    def reply_to(self, request, is_control):
        if request.path.startswith(CONTROL):
            return whole_reply(self.control.answer(request), "control", request.keep)
        reply = self.compose(request, f"{self.request_id}{self.journal.count + 1:08x}")
        self.journal.received(request, reply)
        self.stats.begin(reply)
        return reply

    def compose(self, request, request_id):
        fault = self.faults.choose(request)
        if not fault:
            return whole_reply(self.answer(request), request_id, request.keep)
        answer = self.answer(request) if delivers(fault) else None
        return faulty_reply(fault, answer, request, request_id)

    def answer(self, request):
        if not self.pace.allows(request):
            self.stats.limited += 1
            return self.pace.answer(request)
        try:
            return self.workspace.answer(request)
        except Exception:       # a mistake of the stub's own: tell it, and live on
            traceback.print_exc(file=sys.stderr)
            return Answer(500, b"the stub has failed: see its log", code="stub_failed")

    def settled(self, request, reply, whole, sent):
        if request.path.startswith(CONTROL):
            return
        self.stats.end(whole, sent)
        if not (reply.plain and whole):
            self.journal.ended(request, whole, sent)


def bind(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def tls_context(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
