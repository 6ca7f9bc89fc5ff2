"""stripe_webhooks.py: /v1/webhook_endpoints, the one list that can be written to.

A new endpoint's answer is the only one that has its secret.  Fields: url and
enabled_events (needed), api_version, connect, description, metadata; of one
there is: url, enabled_events, description, disabled, metadata.
"""

import json
import os
from urllib.parse import urlsplit

from http11 import Answer
from stripe_errors import Refused, no_such
from stripe_lists import Query
from stripe_store import dumps
from stripe_types import EVENT_TYPES, TYPES

ENDPOINT = TYPES["webhook_endpoint"]
MAKES = {"url", "enabled_events", "api_version", "connect", "description", "metadata", "expand"}
CHANGES = {"url", "enabled_events", "description", "disabled", "metadata", "expand"}


def create(stripe, account, _found, request):
    fields = fields_of(request, MAKES)
    for name in ("url", "enabled_events"):
        if not fields.get(name):
            raise Refused(400, f"Missing required param: {name}.", "parameter_missing", name)
    check(fields)
    value = {
        "id": f"we_1{os.urandom(12).hex()[:23]}", "object": ENDPOINT.name,
        "api_version": fields.get("api_version"), "application": None,
        "created": int(stripe.now()), "description": fields.get("description"),
        "enabled_events": fields["enabled_events"], "livemode": is_live(request),
        "metadata": fields.get("metadata", {}), "status": "enabled", "url": fields["url"],
    }
    entry = stripe.add(account, value)
    entry_value = json.loads(entry.body)
    secret = f"whsec_sEcReT{os.urandom(24).hex()[:26]}"     # tests search for that word
    stripe.secrets[value["id"]] = secret
    return answer({**entry_value, "secret": secret})


def is_live(request):
    """By the key that it was asked with."""
    return "k_live_" in request.headers.get("authorization", "")


def change(stripe, account, found, request):
    fields = fields_of(request, CHANGES)
    entry = account.of(ENDPOINT).by_id.get(found.id)
    if not entry:
        raise no_such(ENDPOINT, found.id, "webhook_endpoint")
    check(fields)
    fields.pop("expand", None)
    if "disabled" in fields:
        fields["status"] = "disabled" if fields.pop("disabled") == "true" else "enabled"
    stripe.change(account, entry, fields)
    return answer(json.loads(entry.body))


def delete(stripe, account, found, _request):
    entry = account.of(ENDPOINT).by_id.get(found.id)
    if not entry:
        raise no_such(ENDPOINT, found.id, "webhook_endpoint")
    stripe.delete(account, entry, gone=True)
    return answer({"id": found.id, "object": ENDPOINT.name, "deleted": True})


def answer(value):
    return Answer(200, dumps(value), "application/json")


def fields_of(request, names):
    """A form; Stripe takes no JSON in its first version."""
    if request.body and request.kind() != "application/x-www-form-urlencoded":
        raise Refused(400, "Invalid request (check that your POST content type is "
                      "application/x-www-form-urlencoded).")
    query = Query(request.body.decode("utf-8", "replace"))
    query.allow(names)
    return query.values


def check(fields):
    events = fields.get("enabled_events", [])
    if not isinstance(events, list):
        raise Refused(400, "Invalid array", None, "enabled_events")
    for place, name in enumerate(events):
        if name != "*" and name not in EVENT_TYPES:
            raise Refused(400, f"Invalid enabled_events[{place}]: must be one of the types of "
                          "events that there are", None, f"enabled_events[{place}]")
    url = fields.get("url")
    if url is not None and (urlsplit(url).scheme not in ("http", "https")
                            or not urlsplit(url).netloc):
        raise Refused(400, "Invalid URL: An explicit scheme (such as https) must be provided.",
                      "url_invalid", "url")


WRITES = {("POST", ENDPOINT.name, "list"): create, ("POST", ENDPOINT.name, "retrieve"): change,
          ("DELETE", ENDPOINT.name, "retrieve"): delete}
