"""faults.py: what can go wrong on the way to Slack and back, on demand.

A rule says which requests it is for, how often, and what happens:

    {"match": {"path": "regex", "text": "regex"}, "skip": 0, "times": 2, "fault": {...}}

"text" is searched for in the message's text and blocks.  Without "match" it is
for every request; without "times" (or null) for ever; "skip" lets so many pass
first.  The first rule that fits is used.  A fault is one of

    {"status": 429, "headers": {"Retry-After": "2"}, "body": "..."}
                                a whole answer; body and headers may be left out
    {"code": "no_service"}      a webhook's text, with its status
    {"api_error": "token_revoked"}      200 and {"ok": false, "error": ...}
    {"reset_before": true}      (or "refuse") RST instead of an answer
    {"close_before": true}      the connection ends in good order, unanswered
    {"reset_mid_answer": true}  the head and half of the body, then RST
    {"never": true}             no answer, the connection stays
    {"huge": 1000000000}        an answer of so many bytes; with "declared": true
                                its length is told first
    {"malformed_json": true}    200, and JSON that breaks off
    {"ok_false_without_error": true}    200 {"ok":false}
    {"redirect": "https://..."} 302
    {"garbage": true}           what isn't HTTP
    {"wrong_length": 10}        so many bytes fewer than Content-Length says

and any of these beside it, or alone for an answer that is good but slow:

    "delay": 2.5        seconds before the first byte
    "drip": 0.2         seconds before each byte
    "close": true       the connection ends after the answer
    "deliver": true     Slack has taken the message nonetheless

A message is not delivered by a request that has a fault, unless the fault is
only slow or closes, or says "deliver".
"""

import json
import re

from http11 import Answer, head_of, json_answer
from workspace import WEBHOOK_STATUS

ONLY_SLOW = {"delay", "drip", "close", "deliver"}
KINDS = {"status", "code", "api_error", "reset_before", "refuse", "close_before",
         "reset_mid_answer", "never", "huge", "malformed_json", "ok_false_without_error",
         "redirect", "garbage", "wrong_length"}
EXTRAS = ONLY_SLOW | {"headers", "body", "declared"}
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


def whole_reply(answer, request_id, keep):
    reply = Reply(answer)
    reply.chunks = iter((head_of(answer, request_id, len(answer.body), keep) + answer.body,))
    reply.end = "keep" if keep else "close"
    return reply


class Rule:
    def __init__(self, spec):
        match = spec.get("match") or {}
        self.fault = spec["fault"]
        self.path = re.compile(match["path"]) if match.get("path") else None
        self.text = re.compile(match["text"]) if match.get("text") else None
        self.skip = spec.get("skip") or 0
        self.left = spec.get("times")
        self.spec = spec
        self.used = 0
        check_fault(self.fault)

    def fits(self, request):
        if self.left == 0:
            return False
        if self.path and not self.path.search(request.path):
            return False
        if self.text and not self.text.search(words_of(request)):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        return True

    def use(self):
        self.used += 1
        if self.left is not None:
            self.left -= 1
        return self.fault


def check_fault(fault):
    unknown = set(fault) - KINDS - EXTRAS
    if unknown:
        raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
    if len(KINDS & set(fault)) > 1:
        raise ValueError(f"one fault at a time: {', '.join(sorted(KINDS & set(fault)))}")


def words_of(request):
    payload = request.json()
    if not isinstance(payload, dict):
        return request.body.decode("utf-8", "replace")
    return f"{payload.get('text')}\n{json.dumps(payload.get('blocks'), ensure_ascii=False)}"


class Faults:
    def __init__(self):
        self.rules = []

    def set(self, specs):
        self.rules = [Rule(spec) for spec in specs]

    def add(self, specs):
        self.rules.extend([Rule(spec) for spec in specs])

    def show(self):
        return [dict(rule.spec, left=rule.left, used=rule.used) for rule in self.rules]

    def choose(self, request):
        for rule in self.rules:
            if rule.fits(request):
                return rule.use()
        return None


def delivers(fault):
    """Does Slack take the message although the answer goes wrong?"""
    return bool(fault.get("deliver")) or set(fault) <= ONLY_SLOW


def is_api(request):
    return request.path.startswith("/api/")


def good_answer(request):
    """What would have been said, of a message that isn't taken."""
    return json_answer({"ok": True}) if is_api(request) else Answer(200, b"ok")


def faulty_reply(fault, answer, request, request_id):
    """What a fault makes of an answer (None: the message wasn't taken)."""
    kind = next(iter(KINDS & set(fault)), None)
    answer = answer or good_answer(request)
    keep = request.keep and not fault.get("close")
    if kind in ANSWERS:
        answer = ANSWERS[kind](fault, request, answer)
    if kind in WIRES:
        reply = WIRES[kind](fault, answer, request_id)
    else:
        reply = whole_reply(answer, request_id, keep)
    reply.fault = fault
    reply.plain = False
    reply.delay = fault.get("delay", 0)
    reply.drip = fault.get("drip", 0)
    return reply


# ---- faults that are an answer ----

def answer_status(fault, request, _answer):
    status = fault["status"]
    headers = tuple((fault.get("headers") or {}).items())
    body = fault.get("body")
    if body is None:
        return default_body(status, headers, request)
    if isinstance(body, str):
        return Answer(status, body.encode(), headers=headers, code=body[:80])
    return json_answer(body, status, headers)


def default_body(status, headers, request):
    if status == 429:
        return limited_answer(request, headers)
    if 300 <= status < 400 or status < 300:
        return Answer(status, good_answer(request).body, headers=headers)
    return Answer(status, b"<html><body>server error</body></html>", headers=headers,
                  code=f"http_{status}")


def limited_answer(request, headers):
    wait = int(dict((name.lower(), value) for name, value in headers).get("retry-after", 1))
    if is_api(request):
        return json_answer({"ok": False, "error": "ratelimited"}, 429, headers)
    return json_answer({"retry_after": wait, "ok": False, "error": "rate_limited"}, 429, headers)


def answer_code(fault, _request, _answer):
    code = fault["code"]
    headers = tuple((fault.get("headers") or {}).items())
    return Answer(WEBHOOK_STATUS.get(code, 400), code.encode(), headers=headers, code=code)


def answer_api_error(fault, _request, _answer):
    return json_answer({"ok": False, "error": fault["api_error"]},
                       headers=tuple((fault.get("headers") or {}).items()))


def answer_malformed(_fault, _request, _answer):
    return Answer(200, b'{"ok":true,"channel":"C0', "application/json; charset=utf-8")


def answer_no_error(_fault, _request, _answer):
    return json_answer({"ok": False})


def answer_redirect(fault, _request, _answer):
    return Answer(302, b"", headers=(("location", fault["redirect"]),))


ANSWERS = {
    "status": answer_status, "code": answer_code, "api_error": answer_api_error,
    "malformed_json": answer_malformed, "ok_false_without_error": answer_no_error,
    "redirect": answer_redirect,
}


# ---- faults of the connection ----

def wire_nothing(end):
    def wire(_fault, _answer, _request_id):
        reply = Reply(None)
        reply.end = end
        reply.cut = True
        return reply
    return wire


def wire_cut(answer, request_id, sent, length, end):
    reply = Reply(answer)
    reply.chunks = iter((head_of(answer, request_id, length, True) + sent,))
    reply.end = end
    reply.cut = True
    return reply


def wire_reset_mid_answer(_fault, answer, request_id):
    half = answer.body[:len(answer.body) // 2 + 1]
    return wire_cut(answer, request_id, half, len(answer.body) + 1000, "reset")


def wire_wrong_length(fault, answer, request_id):
    short = fault["wrong_length"]
    if short < 0:
        surplus = answer.body + b"?" * -short
        return wire_cut(answer, request_id, surplus, len(answer.body), "close")
    return wire_cut(answer, request_id, answer.body, len(answer.body) + short, "close")


def wire_huge(fault, answer, request_id):
    size = fault["huge"]
    length = size if fault.get("declared") else None
    reply = Reply(Answer(200, b"", answer.kind))
    reply.chunks = pieces(head_of(answer, request_id, length, False), size)
    reply.end = "close"
    return reply


def pieces(head, size):
    yield head
    while size > 0:
        yield PIECE[:size]
        size -= len(PIECE)


def wire_garbage(_fault, _answer, _request_id):
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
