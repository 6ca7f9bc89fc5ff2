"""faults.py: what can go wrong on the way to a service and back, on demand.

A rule says which requests it is for, how often, and what happens:

    {"match": {"path": "regex", ...}, "skip": 0, "times": 2, "fault": {...}}

What can be matched: "method" (all of it), "path", "query" (as sent, percent
signs and all), "account" (the header Stripe-Account, "" when there is none)
and "text", in what the service calls the words of a request (of a Slack
message its text and blocks).  All must fit.  Without "match" a rule is for
every request; without "times" (or null) for ever; "skip" lets so many pass
first.  The first rule that fits is used.  A fault is one of

    {"status": 429, "headers": {"Retry-After": "2"}, "body": "..."}
                                a whole answer; body and headers may be left out;
                                "body_hex" instead of "body" for any bytes
    {"reset_before": true}      (or "refuse") RST instead of an answer
    {"close_before": true}      the connection ends in good order, unanswered
    {"reset_mid_answer": true}  the head and half of the body, then RST
    {"never": true}             no answer, the connection stays
    {"huge": 1000000000}        an answer of so many bytes; with "declared": true
                                its length is told first
    {"malformed_json": true}    200, and JSON that breaks off
    {"redirect": "https://..."} 302
    {"garbage": true}           what isn't HTTP
    {"wrong_length": 10}        so many bytes fewer than Content-Length says

or of the service's own (slack_service.py, stripe_faults.py), and any of these
beside it, or alone for an answer that is good but slow:

    "delay": 2.5        seconds before the first byte
    "drip": 0.2         seconds before each byte
    "close": true       the connection ends after the answer
    "deliver": true     the service has taken the request nonetheless

A request that has a fault changes nothing at the service, unless the fault is
only slow or closes, or says "deliver".
"""

import re

from http11 import Answer, head_of

ONLY_SLOW = {"delay", "drip", "close", "deliver"}
EXTRAS = ONLY_SLOW | {"headers", "body", "body_hex", "declared"}
MATCHES = {"method", "path", "query", "account", "text"}
PIECE = b"x" * 65536


class Reply:
    """Bytes to be sent, and how: what the connection works off."""

    __slots__ = ("chunks", "status", "code", "body", "delay", "drip", "end", "cut", "fault",
                 "plain")

    def __init__(self, answer, fault=None):
        self.chunks = iter(())
        self.status = answer.status if answer else None
        self.code = answer.code if answer else ""
        self.body = answer.body if answer else b""
        self.delay = 0
        self.drip = 0
        self.end = "keep"       # or close, reset, hang
        self.cut = False        # the answer isn't whole though all of it was sent
        self.fault = fault
        self.plain = fault is None


def whole_reply(answer, keep):
    reply = Reply(answer)
    reply.chunks = iter((head_of(answer, len(answer.body), keep) + answer.body,))
    reply.end = "keep" if keep else "close"
    return reply


class Rule:
    def __init__(self, spec, service):
        self.match = {name: re.compile(pattern)
                      for name, pattern in (spec.get("match") or {}).items() if pattern}
        self.fault = spec["fault"]
        self.skip = spec.get("skip") or 0
        self.left = spec.get("times")
        self.spec = spec
        self.used = 0
        self.service = service
        if set(self.match) - MATCHES:
            raise ValueError(f"what is matched: {', '.join(sorted(MATCHES))}")
        check_fault(self.fault, service)

    def fits(self, request):
        if self.left == 0:
            return False
        if not all(pattern.search(self.subject(name, request))
                   for name, pattern in self.match.items()):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        return True

    def subject(self, name, request):
        if name == "text":
            return self.service.words(request)
        if name == "account":
            return request.headers.get("stripe-account", "")
        return getattr(request, name)

    def use(self):
        self.used += 1
        if self.left is not None:
            self.left -= 1
        return self.fault


def check_fault(fault, service):
    kinds = set(ANSWERS) | set(WIRES) | set(service.fault_answers)
    unknown = set(fault) - kinds - EXTRAS - service.fault_extras
    if unknown:
        raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
    if len(kinds & set(fault)) > 1:
        raise ValueError(f"one fault at a time: {', '.join(sorted(kinds & set(fault)))}")


class Faults:
    def __init__(self, service):
        self.service = service
        self.rules = []

    def set(self, specs):
        self.rules = [Rule(spec, self.service) for spec in specs]

    def add(self, specs):
        self.rules.extend([Rule(spec, self.service) for spec in specs])

    def show(self):
        return [dict(rule.spec, left=rule.left, used=rule.used) for rule in self.rules]

    def choose(self, request):
        for rule in self.rules:
            if rule.fits(request):
                return rule.use()
        return None


def delivers(fault):
    """Does the service take the request although the answer goes wrong?"""
    return bool(fault.get("deliver")) or set(fault) <= ONLY_SLOW


def faulty_reply(fault, answer, request, server):
    """What a fault makes of an answer (None: the request wasn't taken)."""
    service = server.service
    answer = answer or service.good_answer(request)
    keep = request.keep and not fault.get("close")
    kind = next((name for name in fault if name not in EXTRAS | service.fault_extras), None)
    if kind in service.fault_answers:
        answer = service.fault_answers[kind](fault, request, answer)
    elif kind in ANSWERS:
        answer = ANSWERS[kind](fault, request, answer, service)
    answer = server.dressed(request, answer)
    if kind in WIRES:
        reply = WIRES[kind](fault, answer)
    else:
        reply = whole_reply(answer, keep)
    reply.fault = fault
    reply.plain = False
    reply.delay = fault.get("delay", 0)
    reply.drip = fault.get("drip", 0)
    return reply


# ---- faults that are an answer ----

def headers_of(fault):
    return tuple((fault.get("headers") or {}).items())


def answer_status(fault, request, _answer, service):
    status = fault["status"]
    headers = headers_of(fault)
    body = fault.get("body")
    if "body_hex" in fault:
        return Answer(status, bytes.fromhex(fault["body_hex"]), headers=headers)
    if body is None:
        return default_answer(status, headers, request, service)
    if isinstance(body, str):
        return Answer(status, body.encode(), headers=headers, code=body[:80])
    return service.json_answer(body, status, headers)


def default_answer(status, headers, request, service):
    if status == 429:
        return service.limited(request, headers, {})
    if 300 <= status < 400 or status < 300:
        good = service.good_answer(request)
        return Answer(status, good.body, good.kind, headers)
    return service.status_answer(status, headers, request)


def answer_malformed(_fault, _request, answer, service):
    body = answer.body[:len(answer.body) // 2] if len(answer.body) > 100 else service.broken_json
    return Answer(200, body, service.json_kind)


def answer_redirect(fault, _request, _answer, _service):
    return Answer(302, b"", headers=(("location", fault["redirect"]),))


ANSWERS = {"status": answer_status, "malformed_json": answer_malformed,
           "redirect": answer_redirect}


# ---- faults of the connection ----

def wire_nothing(end):
    def wire(_fault, _answer):
        reply = Reply(None)
        reply.end = end
        reply.cut = True
        return reply
    return wire


def wire_cut(answer, sent, length, end):
    reply = Reply(answer)
    reply.chunks = iter((head_of(answer, length, True) + sent,))
    reply.end = end
    reply.cut = True
    return reply


def wire_reset_mid_answer(_fault, answer):
    half = answer.body[:len(answer.body) // 2 + 1]
    return wire_cut(answer, half, len(answer.body) + 1000, "reset")


def wire_wrong_length(fault, answer):
    short = fault["wrong_length"]
    if short < 0:
        surplus = answer.body + b"?" * -short
        return wire_cut(answer, surplus, len(answer.body), "close")
    return wire_cut(answer, answer.body, len(answer.body) + short, "close")


def wire_huge(fault, answer):
    size = fault["huge"]
    length = size if fault.get("declared") else None
    empty = Answer(200, b"", answer.kind, answer.headers)
    reply = Reply(empty)
    reply.chunks = pieces(head_of(empty, length, False), size)
    reply.end = "close"
    return reply


def pieces(head, size):
    yield head
    while size > 0:
        yield PIECE[:size]
        size -= len(PIECE)


def wire_garbage(_fault, _answer):
    reply = Reply(None)
    reply.chunks = iter((b"\x00\xff\x16SSH-2.0-\r\n\r\n not HTTP at all \r\n",))
    reply.end = "close"
    return reply


WIRES = {
    "reset_before": wire_nothing("reset"), "refuse": wire_nothing("reset"),
    "close_before": wire_nothing("close"), "never": wire_nothing("hang"),
    "reset_mid_answer": wire_reset_mid_answer, "wrong_length": wire_wrong_length,
    "huge": wire_huge, "garbage": wire_garbage,
}
