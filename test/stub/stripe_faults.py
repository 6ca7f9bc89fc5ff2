"""stripe_faults.py: the faults that only Stripe has (the others: faults.py).

    {"error": "lock_timeout"}       an error by its code (stripe_errors.BY_CODE), with its status
    {"endless": "empty"}            has_more is true on every page; behind the last object
                                    there are pages without any
    {"endless": "same"}             the same, but every page is the first
    {"repeat": 3}                   a page begins with the last 3 objects of the one before
    {"without": ["created", ...]}   objects that lack these fields
    {"first_object": {...}}         fields set in the first object of a page
    {"page": {"data": null, ...}}   fields set in the page (or in an object that is retrieved)

"headers" goes with each.  {"status": N} (faults.py) is Stripe's own error of that status;
{"status": 429} has Stripe-Rate-Limited-Reason; Stripe-Should-Retry is a matter of headers.
"""

import json
from urllib.parse import parse_qsl, urlencode

from faults import headers_of
from http11 import Answer
from stripe_errors import error_answer, of_code
from stripe_store import dumps


def answer_error(fault, _request, _answer, _stripe):
    return error_answer(of_code(fault["error"]), headers_of(fault))


def page_of(answer):
    """The page that a good answer is; None for anything else."""
    value = json.loads(answer.body) if answer.status == 200 else None
    return value if isinstance(value, dict) and isinstance(value.get("data"), list) else None


def changed(change):
    """A fault that changes a page, and leaves alone what is none."""
    def answer_changed(fault, request, answer, stripe):
        page = page_of(answer)
        if page is None:
            return answer
        page = change(fault, request, page, stripe) or page
        return Answer(200, dumps(page), answer.kind, (*answer.headers, *headers_of(fault)))
    return answer_changed


def asked_with(request, stripe, **parameters):
    """The page of the same request with other parameters (None: without)."""
    query = [(name, value) for name, value in parse_qsl(request.query, keep_blank_values=True)
             if name not in parameters]
    query += [(name, value) for name, value in parameters.items() if value is not None]
    kept, request.query = request.query, urlencode(query)
    answer = stripe.answer(request)
    request.query = kept
    return page_of(answer)


def endless(fault, request, page, stripe):
    if fault["endless"] == "same":
        page = asked_with(request, stripe, starting_after=None, ending_before=None)
    page["has_more"] = True
    return page


def repeat(fault, request, page, stripe):
    query = dict(parse_qsl(request.query))
    if "starting_after" not in query or not page["data"]:
        return
    before = asked_with(request, stripe, starting_after=None, limit=str(fault["repeat"]),
                        ending_before=page["data"][0]["id"])
    page["data"] = before["data"] + page["data"]


def without(fault, _request, page, _stripe):
    for each in page["data"]:
        for name in fault["without"]:
            each.pop(name, None)


def first_object(fault, _request, page, _stripe):
    if page["data"]:
        page["data"][0].update(fault["first_object"])


def answer_page(fault, _request, answer, _stripe):
    if answer.status != 200:
        return answer
    return Answer(200, dumps({**json.loads(answer.body), **fault["page"]}), answer.kind,
                  (*answer.headers, *headers_of(fault)))


FAULTS = {"error": answer_error, "endless": changed(endless), "repeat": changed(repeat),
          "without": changed(without), "first_object": changed(first_object),
          "page": answer_page}
