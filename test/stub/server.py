"""server.py: the server that every stub is: it accepts, counts, limits,
misbehaves when told to, and asks its service for the answers.

A service (slack_service.py, stripe_service.py) has

    name                        for the journal and the log
    reset()                     forget everything
    answer(request)             -> Answer
    headers(request, answer, request_id)    (name, value) pairs that each answer bears
    counts()                    what "stats" tells of it
    received(request, reply)    an answer is about to go out, and
    settled(request, reply, whole)          is out, or could not be
    place(request, spec)        what a limit is counted for (Pace), and
    limited(request, headers, spec)         -> Answer: too fast
    wants_answer(fault, request), words(request), good_answer(request),
    status_answer(status, headers, request), json_answer(value, status, headers),
    json_kind, broken_json, fault_answers (by kind), fault_extras
                                see faults.py
    journal_headers, max_journaled, describe(request, reply), show_header(name, value)
                                see journal.py
"""

import itertools
import os
import socket
import ssl
import sys
import time
import traceback

from connection import READ, Connection, Loop
from control import PREFIX as CONTROL
from faults import faulty_reply, whole_reply
from http11 import Answer


class Stop(BaseException):
    """A signal asks to stop."""


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
        return {**vars(self), **server.service.counts(),
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
    """A limit: so many requests a second and place, and short bursts.  What a
    place is, and what the one who is too fast hears, is the service's to say."""

    def __init__(self, service):
        self.service = service
        self.set({})

    def set(self, spec):
        self.spec = spec
        self.per_second = spec.get("per_second") or 0
        self.burst = spec.get("burst", 1)
        self.buckets = {}

    def allows(self, request):
        if not self.per_second:
            return True
        place, now = self.service.place(request, self.spec), time.monotonic()
        tokens, then = self.buckets.get(place, (self.burst, now))
        tokens = min(self.burst, tokens + (now - then) * self.per_second)
        allowed = tokens >= 1
        self.buckets[place] = (tokens - allowed, now)
        return allowed


class Server:
    def __init__(self, service, faults, journal, cert, key):
        self.loop = Loop()
        self.service = service
        self.faults = faults
        self.journal = journal
        self.control = None
        self.pace = Pace(service)
        self.stats = Stats()
        self.connections = set()
        self.mute = []              # accepted, and never spoken to
        self.numbers = itertools.count(1)
        self.request_id = os.urandom(8).hex()
        self.tls = tls_context(cert, key) if cert else None
        self.mode = "open"
        self.listener = None
        self.held = None
        self.port = self.control_port = None

    def listen(self, port, control_port):
        control = bind(control_port)
        control.listen(1024)
        control.setblocking(False)
        self.control_port = control.getsockname()[1]
        self.loop.watch(control.fileno(), READ, lambda _: self.accept(control, True))
        # Held while nothing listens on it, so that nobody else is given it.
        self.held = bind(port)
        self.port = self.held.getsockname()[1]
        self.open_listener()

    def open_listener(self):
        self.listener = bind(self.port)
        self.listener.listen(1024)
        self.listener.setblocking(False)
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

    def release(self):
        for connection in list(self.connections):
            connection.hurry()

    def reset(self):
        self.service.reset()
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
            return whole_reply(self.control.answer(request), request.keep)
        request.id = f"{self.request_id}{self.journal.count + 1:08x}"
        reply = self.compose(request)
        self.service.received(request, reply)
        self.journal.received(request, reply)
        self.stats.begin(reply)
        return reply

    def compose(self, request):
        fault = self.faults.choose(request)
        if not fault:
            answer = self.dressed(request, self.answer(request))
            return whole_reply(answer, request.keep)
        answer = self.answer(request) if self.service.wants_answer(fault, request) else None
        return faulty_reply(fault, answer, request, self)

    def dressed(self, request, answer):
        """With what each answer of the service bears, but what it says itself."""
        said = {name.lower() for name, _ in answer.headers}
        more = self.service.headers(request, answer, request.id)
        return Answer(answer.status, answer.body, answer.kind,
                      (*answer.headers, *(each for each in more if each[0].lower() not in said)),
                      answer.code)

    def answer(self, request):
        if not self.pace.allows(request):
            self.stats.limited += 1
            wait = self.pace.spec.get("retry_after", 1)
            headers = () if wait is None else (("retry-after", wait),)
            return self.service.limited(request, headers, self.pace.spec)
        try:
            return self.service.answer(request)
        except Exception:       # a mistake of the stub's own: tell it, and live on
            traceback.print_exc(file=sys.stderr)
            return Answer(500, b"the stub has failed: see its log", code="stub_failed")

    def settled(self, request, reply, whole, sent):
        if request.path.startswith(CONTROL):
            return
        self.stats.end(whole, sent)
        self.service.settled(request, reply, whole)
        if not (reply.plain and whole):
            self.journal.ended(request, whole, sent)


def bind(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def tls_context(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
