#!/usr/bin/env python3
"""check_stub.py DIR: is the stub what its documentation says it is?

The stub runs over TLS in DIR (slack.py, tls.sh).  Prints "ok - name" and
"not ok - name"; who runs it counts.
"""

import errno
import json
import socket
import ssl
import sys
import time

sys.dont_write_bytecode = True

from check_words import connect, control, fault, header, is_, journal, read_answer, \
    read_port, wait_until

HOOK = "/services/T0PLAIN/B0PLAIN/secret"
POST = "/api/chat.postMessage"
UPDATE = "/api/chat.update"
JSON_TYPE = "application/json; charset=utf-8"


# ---- words ----

def request_bytes(path, body, kind=JSON_TYPE, token="xoxb-plain"):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


def exchange(path, body, timeout=3, **how):
    with connect(timeout=timeout) as sock:
        sock.sendall(request_bytes(path, body, **how))
        return read_answer(sock)


def ask(path, body, **how):
    """Status and body of a whole answer."""
    data, end = exchange(path, body, **how)
    if end != "whole":
        return end, data
    head, _, text = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), text.decode()


def api(path, body, **how):
    """Slack's word for it: ok, or the error."""
    status, text = ask(path, body, **how)
    answer = json.loads(text)
    return "ok" if answer["ok"] else f"{answer['error']}" if status == 200 else status


def section(text, **more):
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, **more}}


def taken():
    return control("stats")["ok"]


# ---- webhooks ----

def check_webhooks():
    for body, expected in [
        ({"text": "hi"}, (200, "ok")),
        ({"blocks": [section("hi")]}, (200, "ok")),
        ({}, (400, "no_text")),
        ({"text": "  "}, (400, "no_text")),
        (b'{"text": "hi"', (400, "invalid_payload")),
        (b"", (400, "invalid_payload")),
        ([], (400, "invalid_payload")),
        ({"text": "hi", "blocks": [section("x" * 3001)]}, (400, "invalid_blocks")),
        ({"text": "hi", "attachments": [{}] * 101}, (400, "too_many_attachments")),
    ]:
        is_(ask(HOOK, body), expected, f"webhook: {str(body)[:40]}: {expected[1]}")
    form = b"payload=%7B%22text%22%3A%22by+form%22%7D"
    is_(ask(HOOK, form, kind="application/x-www-form-urlencoded"), (200, "ok"), "webhook: a form")
    is_(ask("/services/T0/B0", {"text": "x"}), (404, "no_service"), "webhook: a path that is none")
    is_(taken(), 3, "webhook: three messages were taken")


def check_chunked():
    body = b'8\r\n{"text":\r\n5\r\n"hi"}\r\n0\r\n\r\n'
    head = f"POST {HOOK} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connect() as sock:
        for byte in head + body:
            sock.sendall(bytes((byte,)))
        is_(read_answer(sock)[0].endswith(b"ok"), True, "a chunked body, byte by byte")
        sock.sendall(request_bytes(HOOK, {"text": "1"}) + request_bytes(HOOK, {"text": "2"}))
        data = read_answer(sock)[0]
        data += b"" if data.count(b"HTTP/1.1 200") == 2 else read_answer(sock)[0]
        is_(data.count(b"HTTP/1.1 200"), 2, "two requests at once over a kept connection")


# ---- the rules ----

def check_api_errors():
    for body, expected in [
        ({"channel": "#ops", "text": "x"}, "ok"),
        ({"channel": "C0123456789", "text": "x"}, "ok"),
        ({"channel": "ops"}, "no_text"),
        ({"text": "x"}, "invalid_arguments"),
        ({"channel": "nowhere", "text": "x"}, "channel_not_found"),
        ({"channel": "private", "text": "x"}, "not_in_channel"),
        ({"channel": "ops", "text": "x" * 40000}, "ok"),
        ({"channel": "ops", "text": "x" * 40001}, "msg_too_long"),
        ({"channel": "ops", "text": "x", "thread_ts": "1500000000.000100"}, "thread_not_found"),
        ({"channel": "ops", "text": "x", "thread_ts": 1500000000.0001}, "invalid_arguments"),
        ({"channel": "ops", "text": "x", "metadata": {}}, "invalid_metadata_format"),
        (b"{", "invalid_json"),
        ([], "json_not_object"),
    ]:
        is_(api(POST, body), expected, f"API: {str(body)[:60]}: {expected}")
    for token, expected in [("", "not_authed"), ("secret", "invalid_auth"),
                            ("xoxb-revoked", "token_revoked"), ("xoxb-expired", "token_expired"),
                            ("xoxb-inactive", "account_inactive")]:
        is_(api("/api/auth.test", {}, token=token), expected, f"API: token '{token}': {expected}")
    is_(api("/api/chat.shout", {}), "unknown_method", "API: unknown_method")
    is_("missing_charset" in ask(POST, {"channel": "ops", "text": "x"}, kind="application/json")[1],
        True, "API: JSON without a charset is warned of")


def check_blocks():
    button = {"type": "button", "text": {"type": "plain_text", "text": "Go"}}
    header_ = {"type": "header", "text": {"type": "plain_text", "text": "x" * 150}}
    for blocks, expected in [
        ([section("x" * 3000)] * 4, "ok"),
        ([section("x" * 3000)] * 5, "msg_blocks_too_long"),
        ([section("x" * 3001)], "invalid_blocks"),
        ([section("")], "invalid_blocks"),
        ([section("x", emoji=True)], "invalid_blocks"),
        ([header_], "ok"),
        ([{**header_, "text": {"type": "plain_text", "text": "x" * 151}}], "invalid_blocks"),
        ([{**header_, "text": {"type": "mrkdwn", "text": "x"}}], "invalid_blocks"),
        ([{"type": "divider"}] * 50, "ok"),
        ([{"type": "divider"}] * 51, "invalid_blocks"),
        ([{"type": "divider", "block_id": "same"}] * 2, "invalid_blocks"),
        ([{"type": "divider", "block_id": "x" * 256}], "invalid_blocks"),
        ([{"type": "divider", "colour": "red"}], "invalid_blocks"),
        ([{"type": "marquee"}], "invalid_blocks"),
        ([{"type": "actions", "elements": [button] * 25}], "ok"),
        ([{"type": "actions", "elements": [button] * 26}], "invalid_blocks"),
        ([{"type": "actions", "elements": []}], "invalid_blocks"),
        ([{"type": "actions", "elements": [{**button, "action_id": "a"}] * 2}], "invalid_blocks"),
        ([{"type": "actions", "elements": [{**button, "value": "x" * 2001}]}], "invalid_blocks"),
        ([{"type": "actions", "elements": [
            {**button, "text": {"type": "plain_text", "text": "x" * 76}}]}], "invalid_blocks"),
        ([{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 10}], "ok"),
        ([{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 11}],
         "invalid_blocks"),
        ("text", "invalid_blocks_format"),
    ]:
        is_(api(POST, {"channel": "ops", "text": "x", "blocks": blocks}), expected,
            f"blocks: {str(blocks).replace('#', '')[:60]}: {expected}")


def check_update():
    first = json.loads(ask(POST, {"channel": "ops", "text": "one"})[1])
    where = {"channel": first["channel"], "ts": first["ts"]}
    is_(api(UPDATE, {**where, "text": "two"}), "ok", "update")
    is_(api(UPDATE, {**where, "channel": "ops", "text": "x"}), "channel_not_found",
        "update: a channel's name is none")
    is_(api(UPDATE, {**where, "ts": "1500000000.000100", "text": "x"}), "message_not_found",
        "update: message_not_found")
    is_(api(POST, {"channel": "ops", "text": "re", "thread_ts": first["ts"]}), "ok", "thread")
    (message,) = control("messages")["channels"][first["channel"]]["messages"]
    is_((message["shown"], message["updates"], [each["shown"] for each in message["replies"]]),
        ("two", 1, ["re"]), "the channel shows what became of it")


def check_shown():
    ask(HOOK, {"text": "&lt;!channel&gt; &amp; <https://x|y>"})
    ask(HOOK, {"text": "fallback", "blocks": [section("<!channel> &amp; <@U123>")]})
    quiet, loud = control("messages")["webhooks"][HOOK]
    is_((quiet["shown"], quiet["pings"]), ("<!channel> & y", []), "shown: what is escaped is text")
    is_((loud["shown"], loud["pings"]), ("@channel & @U123", ["!channel", "@U123"]),
        "shown: what isn't escaped rings")


# ---- faults ----

def check_whole_faults():
    for what, path, expected in [
        ({"status": 500}, HOOK, 500),
        ({"status": 503, "body": "busy"}, HOOK, 503),
        ({"code": "action_prohibited"}, HOOK, 403),
        ({"code": "channel_is_archived"}, HOOK, 410),
        ({"api_error": "fatal_error"}, POST, 200),
        ({"ok_false_without_error": True}, POST, 200),
        ({"malformed_json": True}, POST, 200),
        ({"redirect": "https://example.com/"}, HOOK, 302),
    ]:
        fault(what)
        is_(ask(path, {"channel": "ops", "text": "x"})[0], expected, f"fault: {what}")
    fault({"status": 429, "headers": {"Retry-After": "7"}})
    data, _ = exchange(POST, {"channel": "ops", "text": "x"})
    is_((header(data, b"retry-after"), b'"ratelimited"' in data), ("7", True), "fault: 429")
    is_(taken(), 0, "fault: nothing was taken")
    is_(ask(HOOK, {"text": "x"}), (200, "ok"), "fault: once, and good again")
    fault({"status": 500, "deliver": True})
    ask(HOOK, {"text": "x"})
    is_(taken(), 2, "fault: a 500 that was delivered nonetheless")


def check_broken_faults():
    for what, expected_end, expected_start in [
        ({"reset_before": True}, "reset", b""),
        ({"refuse": True}, "reset", b""),
        ({"close_before": True}, "end", b""),
        ({"reset_mid_answer": True}, "reset", b"HTTP/1.1 200"),
        ({"wrong_length": 10}, "end", b"HTTP/1.1 200"),
        ({"garbage": True, "deliver": True}, "end", b"\0\xff\x16"),
    ]:
        fault(what)
        data, end = exchange(HOOK, {"text": "x"})
        is_((end, data[:len(expected_start) or None]), (expected_end, expected_start),
            f"fault: {what}")
    fault({"never": True})
    is_(exchange(HOOK, {"text": "x"}, timeout=0.3), (b"", "timeout"), "fault: never")
    wait_until(lambda: control("stats")["in_flight"] == 0)
    stats = control("stats")
    is_((stats["ok"], stats["cut"], stats["in_flight"]), (1, 6, 0), "fault: counted as cut")
    is_([entry["whole"] for entry in journal() if "ended" in entry],
        [False] * 5 + [True, False], "fault: journalled as cut")


def check_slow_faults():
    for what, least in [({"delay": 0.3}, 0.3), ({"drip": 0.002}, 0.2)]:
        fault(what)
        started = time.monotonic()
        answer = ask(HOOK, {"text": "slow"})
        is_((answer, time.monotonic() - started >= least), ((200, "ok"), True), f"fault: {what}")
    is_(taken(), 2, "fault: slow, and taken")
    fault({"delay": 60}, times=3)
    sockets = [connect() for _ in range(3)]
    for sock in sockets:
        sock.sendall(request_bytes(HOOK, {"text": "at once"}))
    started = time.monotonic()
    ask(HOOK, {"text": "not held up"})
    is_(time.monotonic() - started < 30, True, "fault: others are not held up")
    wait_until(lambda: control("stats")["in_flight"] == 3)
    control("release", {})
    is_([read_answer(sock)[1] for sock in sockets], ["whole"] * 3, "fault: three slow at once, and released")
    is_(control("stats")["max_in_flight"], 4, "four were in flight at once")


def check_huge():
    fault({"huge": 1000000000})
    with connect() as sock:
        sock.sendall(request_bytes(HOOK, {"text": "x"}))
        got = sum(len(sock.recv(65536)) for _ in range(200))
    wait_until(lambda: control("stats")["in_flight"] == 0)
    stats = control("stats")
    is_((got > 100000, stats["bytes_sent"] < 100000000, stats["cut"]), (True, True, 1),
        "fault: 1 GB, and it stops when the client leaves")


def check_matching():
    control("faults", [
        {"match": {"text": "(?i)poison"}, "times": None, "fault": {"status": 500}},
        {"match": {"path": "^/api/"}, "skip": 1, "times": 1, "fault": {"api_error": "x"}}])
    is_([ask(HOOK, {"text": text})[0] for text in ("good", "Poison", "good", "poison")],
        [200, 500, 200, 500], "rules: by text, for ever")
    is_(ask(HOOK, {"blocks": [section("POISON")]})[0], 500, "rules: by the text of blocks")
    is_([api(POST, {"channel": "ops", "text": "x"}) for _ in range(3)], ["ok", "x", "ok"],
        "rules: by path, the second only")
    is_([rule["used"] for rule in control("faults")], [3, 1], "rules: counted")


# ---- the rest ----

def check_rate():
    control("rate", {"per_second": 0.4, "burst": 2, "retry_after": 3})
    is_([ask(HOOK, {"text": "x"})[0] for _ in range(4)], [200, 200, 429, 429], "rate: a burst of 2")
    is_(ask(HOOK + "2", {"text": "x"})[0], 200, "rate: per webhook")
    is_(control("stats")["limited"], 2, "rate: counted")
    is_(wait_until(lambda: ask(HOOK, {"text": "x"})[0] == 200), True, "rate: again after a while")


def check_modes():
    kept = connect()
    control("listen", {"mode": "closed"})
    is_(refusal(), "ConnectionRefusedError", "closed: refused")
    is_(read_answer(kept)[1], "end", "closed: what was open is ended")
    is_(taking_its_port(), errno.EADDRINUSE, "closed: the port is still the stub's")
    control("listen", {"mode": "silent"})
    is_(refusal(), "TimeoutError", "silent: not even TLS")
    control("listen", {"mode": "open"})
    is_(ask(HOOK, {"text": "x"}), (200, "ok"), "open again, on the same port")


def taking_its_port():
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", read_port("port")))
        except OSError as error:
            return error.errno
    return 0


def refusal():
    try:
        connect(timeout=0.3)
    except OSError as error:
        return type(error).__name__
    return "connected"


def check_tls():
    try:
        connect(ca="other_ca.pem")
        trusted = True
    except ssl.SSLCertVerificationError:
        trusted = False
    wait_until(lambda: control("stats")["tls_failures"] == 1)
    is_((trusted, control("stats")["tls_failures"]), (False, 1), "TLS: another authority's client")


def check_journal():
    ask(HOOK, {"text": "Zoë 😀"})
    ask(HOOK, b"not JSON")
    first, second = journal()
    is_((first["payload"], first["path"], first["status"], first["whole"], first["fault"]),
        ({"text": "Zoë 😀"}, HOOK, 200, True, None), "journal: a request")
    is_((second["body"], second["code"]), ("not JSON", "invalid_payload"), "journal: no JSON")


def note_speed():
    data = request_bytes(HOOK, {"text": "fast", "blocks": [section("fast")]})
    sockets = [connect() for _ in range(16)]
    started = time.monotonic()
    for _ in range(250):
        for sock in sockets:
            sock.sendall(data)
        for sock in sockets:
            read_answer(sock)
    print(f"# {4000 / (time.monotonic() - started):.0f} requests/s over TLS and 16 connections")


CHECKS = (check_webhooks, check_chunked, check_api_errors, check_blocks, check_update, check_shown,
          check_whole_faults, check_broken_faults, check_slow_faults, check_huge, check_matching,
          check_rate, check_modes, check_tls, check_journal, note_speed)

for check in CHECKS:
    control("reset", {})
    check()
