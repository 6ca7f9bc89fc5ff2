#!/usr/bin/env python3
"""check_stripe_faults.py DIR: the faults of the stub of Stripe by what a client
sees of them, what a test sees of its requests, and how fast it is.

As check_stripe.py.
"""

import json
import sys
import time

sys.dont_write_bytecode = True

from check_stripe_words import KEY, ask, error, exchange, fill, get, ids, request_bytes, run, whole
from check_words import connect, control, fault, header, is_, journal


# ---- what goes wrong ----

def check_errors():
    fill("customer", 1)
    fault({"status": 429, "headers": {"Retry-After": "3"}})
    head, value = whole("/v1/customers")
    is_((head[9:12], header(head, b"retry-after"), header(head, b"stripe-rate-limited-reason"),
         value["error"]["code"]), (b"429", "3", "global-rate", "rate_limit"), "fault: 429")
    for status, code in ((500, "api_error"), (503, "api_error"), (409, "lock_timeout"),
                         (401, "invalid_request_error"), (403, "invalid_request_error")):
        fault({"status": status})
        is_(error("/v1/customers"), (status, code), f"fault: {status}")
    fault({"error": "lock_timeout", "headers": {"Stripe-Should-Retry": "false"}})
    head, _ = whole("/v1/customers")
    is_((head[9:12], header(head, b"stripe-should-retry")), (b"429", "false"), "fault: by its code")
    fault({"redirect": "https://example.com/"})
    is_(header(exchange("/v1/customers")[0], b"location"), "https://example.com/",
        "fault: redirect")
    fault({"status": 500}, times=3,
          match={"path": "^/v1/char", "query": "limit=7", "account": "^$"})
    targets = ("/v1/charges", "/v1/customers?limit=7", "/v1/charges?limit=7")
    is_([ask(target)[0] for target in targets],
        [200, 200, 500], "fault: for those that fit")


def check_wires():
    fill("customer", 100, size=5000)
    ends = {}
    for kind in ("reset_before", "reset_mid_answer", "close_before", "garbage"):
        fault({kind: True})
        data, ends[kind] = exchange("/v1/customers?limit=100")
        if kind == "reset_mid_answer":
            is_(data.startswith(b"HTTP/1.1 200") and len(data) > 100000, True, "fault: half a page")
    is_(ends, {"reset_before": "reset", "reset_mid_answer": "reset", "close_before": "end",
               "garbage": "end"}, "fault: broken connections")
    fault({"malformed_json": True})
    data, end = exchange("/v1/customers?limit=100")
    body = data.partition(b"\r\n\r\n")[2]
    try:
        json.loads(body)
        is_("JSON", "broken", "fault: malformed page")
    except ValueError:
        is_((end, len(body) > 100000), ("whole", True), "fault: malformed page")
    fault({"delay": 0.2})
    started = time.monotonic()
    is_((ask("/v1/customers")[0], time.monotonic() - started >= 0.2), (200, True), "fault: slow")
    fault({"drip": 0.001}, match={"path": "/v1/charges"})
    started = time.monotonic()
    is_((ask("/v1/charges")[0], time.monotonic() - started >= 0.1), (200, True), "fault: drips")
    fault({"huge": 3000000, "declared": True})
    is_(len(exchange("/v1/customers")[0]) > 3000000, True, "fault: huge")


def check_odd_pages():
    newest = fill("customer", 6)[::-1]
    fault({"endless": "empty"}, times=None)
    page = get(f"/v1/customers?starting_after={newest[-1]}")
    is_((page["data"], page["has_more"]), ([], True), "fault: endless, without objects")
    fault({"endless": "same"}, times=None)
    page = get(f"/v1/customers?limit=2&starting_after={newest[3]}")
    is_(([each["id"] for each in page["data"]], page["has_more"]), (newest[:2], True),
        "fault: endless, the same page")
    fault({"repeat": 2}, times=None)
    is_(ids(f"/v1/customers?limit=2&starting_after={newest[2]}"), newest[1:5],
        "fault: ids that repeat across pages")
    fault({"without": ["created", "id"]})
    is_([set(each) & {"created", "id", "object"} for each in get("/v1/customers?limit=2")["data"]],
        [{"object"}] * 2, "fault: objects without fields")
    fault({"first_object": {"created": "yesterday"}})
    is_([type(each["created"]) for each in get("/v1/customers?limit=2")["data"]], [str, int],
        "fault: an odd object")
    fault({"page": {"data": None}})
    is_(get("/v1/customers")["data"], None, "fault: an odd page")
    is_(ids("/v1/customers"), newest, "fault: nothing of it stays")


def check_unmade():
    form = {"url": "https://example.com/", "enabled_events[]": ["*"]}
    how = {"method": "POST", "form": form, "Idempotency_Key": "k2"}
    fault({"reset_before": True})
    exchange("/v1/webhook_endpoints", **how)
    is_(ids("/v1/webhook_endpoints"), [], "fault: nothing was made")
    fault({"reset_before": True, "deliver": True})
    exchange("/v1/webhook_endpoints", **how)
    made = ids("/v1/webhook_endpoints")
    is_((len(made), ask("/v1/webhook_endpoints", **how)[1]["id"]), (1, made[0]),
        "fault: made, and the answer lost: the next attempt finds it")


def check_rate():
    control("rate", {"per_second": 0.2, "burst": 2, "retry_after": None})
    got = [ask(path)[0] for path in ("/v1/customers", "/v1/charges", "/v1/charges")]
    is_((got, control("stats")["limited"]), ([200, 200, 429], 1), "rate: per account")
    control("rate", {"per_second": 0.2, "per": "list"})
    got = [whole(path)[0] for path in ("/v1/customers", "/v1/charges", "/v1/charges")]
    is_(([head[9:12] for head in got], header(got[2], b"stripe-rate-limited-reason"),
         header(got[2], b"retry-after")), ([b"200", b"200", b"429"], "endpoint-rate", "1"),
        "rate: per list")


# ---- what the test sees ----

def check_journal():
    made = fill("customer", 3)
    ask("/v1/customers?limit=2", Stripe_Account="", Stripe_Version="2026-10-28.endive")
    ask(f"/v1/customers?limit=2&starting_after={made[1]}", Idempotency_Key="x")
    fault({"status": 500})
    ask("/v1/customers?limit=2")
    first, second, third = (each for each in journal() if "at" in each)
    is_((first["path"], first["query"], first["status"], first["headers"]["stripe-version"]),
        ("/v1/customers", "limit=2", 200, "2026-10-28.endive"), "journal: a request")
    is_((KEY in json.dumps(first), first["headers"]["authorization"][:16], first["request_id"][:4]),
        (False, "Bearer sk_test_#", "req_"), "journal: without the key")
    is_((second["headers"]["idempotency-key"], third["status"], third["code"], third["fault"]),
        ("x", 500, "api_error", {"status": 500}), "journal: others")
    is_(control("pages"), {"": {
        "/v1/customers?limit=2": {"asked": 2, "answered": 1},
        f"/v1/customers?limit=2&starting_after={made[1]}": {"asked": 1, "answered": 1}}},
        "pages: how often each was read")
    is_({each: set(objects) for each, objects in control("state").items()}, {"customer": set(made)},
        "state: what there is")


def note_speed():
    fill("customer", 20000, size=5000)
    cursor, count, size, started = "", 0, 0, time.monotonic()
    with connect(timeout=10) as sock:
        while cursor is not None:
            sock.sendall(request_bytes(f"/v1/customers?limit=100{cursor}"))
            body = read_page(sock)
            count, size = count + 100, size + len(body)
            last = body.rindex(b'{"id":"cus_') + 7
            more = b'"has_more":true' in body[-60:]
            cursor = f"&starting_after={body[last:last + 28].decode()}" if more else None
    took = time.monotonic() - started
    is_(count, 20000, "speed: each object once")
    print(f"# {count / took:.0f} objects/s, {size / took / 1e6:.0f} MB/s over TLS, one connection")


def read_page(sock):
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += sock.recv(1 << 20)
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    parts, left = [body], int(header(head, b"content-length")) - len(body)
    while left > 0:
        parts.append(sock.recv(1 << 20))
        left -= len(parts[-1])
    return b"".join(parts)


CHECKS = (check_errors, check_wires, check_odd_pages, check_unmade, check_rate, check_journal,
          note_speed)

run(CHECKS)
