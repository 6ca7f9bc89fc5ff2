"""tickets.py: what an interaction lets an app do for a while: answer through its
response_url (5 times in 30 minutes), open one view for its trigger_id (in 3 s).
"""

import json
import secrets
import time

from http11 import Answer, json_answer
from rules import Refused, check_message

URL_USES = 5
URL_LIFE = 30 * 60
TRIGGER_LIFE = 3
KEYS = {"text", "blocks", "attachments", "response_type", "replace_original", "delete_original",
        "thread_ts", "mrkdwn", "unfurl_links", "unfurl_media", "metadata", "parse", "link_names"}


class Ticket:
    def __init__(self, context):
        self.context = context      # who, where, about which message
        self.at = time.monotonic()
        self.uses = 0

    def older_than(self, seconds):
        return time.monotonic() - self.at > seconds


class Tickets:
    def __init__(self, team):
        self.team = team
        self.urls = {}
        self.triggers = {}
        self.trigger_life = TRIGGER_LIFE

    def response_path(self, kind, context):
        """kind is actions or commands, as Slack's own paths have it."""
        path = f"/{kind}/{self.team}/{len(self.urls) + 1}/{secrets.token_hex(12)}"
        self.urls[path] = Ticket(context)
        return path

    def trigger(self, context):
        key = f"{len(self.triggers) + 1}.{int(time.time())}.{secrets.token_hex(16)}"
        self.triggers[key] = Ticket(context)
        return key

    def exchange(self, key):
        """The context of a trigger_id, which is then used up."""
        ticket = self.triggers.get(key)
        if ticket is None:
            raise Refused("invalid_trigger_id")
        if ticket.older_than(self.trigger_life):
            raise Refused("expired_trigger_id")
        if ticket.uses:
            raise Refused("exchanged_trigger_id")
        ticket.uses += 1
        return ticket.context

    def set_trigger_life(self, seconds):
        """For tests of what is opened in time, whatever the speed of the machine."""
        self.trigger_life = seconds

    def expire(self):
        """As if all there are were too old."""
        for ticket in (*self.urls.values(), *self.triggers.values()):
            ticket.at -= URL_LIFE + 1

    def respond(self, request, apply):
        """The answer to a request to a response_url; apply() shows what it says."""
        ticket = self.urls[request.path]
        as_json = request.path.startswith("/actions/")
        try:
            if request.method != "POST":
                return Answer(405, b"method not allowed", code="http_405")
            use_url(ticket)
            payload = request.json()
            check_response(payload)
            apply(ticket.context, payload)
        except Refused as refused:
            status = 404 if refused.code in ("used_url", "expired_url") else 400
            if as_json:
                return json_answer({"ok": False, "error": refused.code}, status)
            return Answer(status, refused.code.encode(), code=refused.code)
        return json_answer({"ok": True}) if as_json else Answer(200, b"ok")


def use_url(ticket):
    """Each request is a use, whatever it says."""
    if ticket.older_than(URL_LIFE):
        raise Refused("expired_url")
    ticket.uses += 1
    if ticket.uses > URL_USES:
        raise Refused("used_url")


def check_response(payload):
    """A message, or that the original goes."""
    if not isinstance(payload, dict):
        raise Refused("invalid_payload")
    if set(payload) - KEYS:
        raise Refused("invalid_arguments", f"unknown: {', '.join(sorted(set(payload) - KEYS))}")
    if payload.get("response_type") not in (None, "ephemeral", "in_channel"):
        raise Refused("invalid_arguments", "response_type")
    for key in ("replace_original", "delete_original"):
        if not isinstance(payload.get(key, False), bool):
            raise Refused("invalid_arguments", f"must be a boolean [json-pointer:/{key}]")
    if not payload.get("delete_original"):
        check_message(payload)


def respond_to_command(answer):
    """What the call itself answers to a command: JSON of a message, a text, or nothing."""
    if answer in (None, ""):
        return None
    if isinstance(answer, str):
        answer = {"text": answer}
    check_response(answer)
    return json.loads(json.dumps(answer))
