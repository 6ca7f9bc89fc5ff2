"""slack_service.py: Slack as the server knows it: a workspace, Slack's limits,
and the faults that only Slack has:

    {"code": "no_service"}              a webhook's text, with its status
    {"api_error": "token_revoked"}      200 and {"ok": false, "error": ...}
    {"ok_false_without_error": true}    200 {"ok":false}

A rule's "text" (faults.py) is searched for in the message's text and blocks.

Slack's part of what control.py does:

    GET  messages       {"channels": {id: {"name", "messages"}}, "webhooks": {path: messages}};
                        a message has ts, text, blocks, updates, replies, what a
                        person would read ("shown") and whom it would ring ("pings")
    GET  texts          {text: how often a message of it was taken or updated to}
    POST tokens         {"xoxb-...": "token_revoked", ...}; null: it is good again
    POST channels       {"name or id": "is_archived", ...}; null: it is good again

and what people do: people.py.

A "rate" is per webhook and channel.
"""

import json

from control import Control, merge
from faults import delivers, headers_of
from http11 import Answer, json_answer
from people import People, private_of
from workspace import WEBHOOK_STATUS, Workspace


class Slack(Workspace):
    name = "slack-stub"
    journal_headers = ("host", "user-agent", "content-type", "content-length", "authorization",
                       "connection", "accept", "accept-encoding", "expect")
    max_journaled = 2000
    broken_json = b'{"ok":true,"channel":"C0'
    json_kind = "application/json; charset=utf-8"
    json_answer = staticmethod(json_answer)
    fault_extras = frozenset()

    def __init__(self):
        super().__init__()
        self.fault_answers = {"code": answer_code, "api_error": answer_api_error,
                              "ok_false_without_error": answer_no_error}

    # ---- what the server asks ----

    def headers(self, _request, _answer, request_id):
        return ("server", self.name), ("x-slack-req-id", request_id)

    def counts(self):
        return {"ok": self.accepted}

    def received(self, _request, _reply):
        pass

    def settled(self, _request, _reply, _whole):
        pass

    def place(self, request, _spec):
        if not is_api(request):
            return request.path
        payload = request.json()
        if not isinstance(payload, dict):
            payload = request.form()
        return str(payload.get("channel", request.path)).removeprefix("#")

    def limited(self, request, headers, _spec):
        wait = dict((name.lower(), value) for name, value in headers).get("retry-after", 1)
        if is_api(request):
            return json_answer({"ok": False, "error": "ratelimited"}, 429, headers)
        return json_answer({"retry_after": int(wait), "ok": False, "error": "rate_limited"},
                           429, headers)

    # ---- what faults ask ----

    def wants_answer(self, fault, _request):
        return delivers(fault)

    def words(self, request):
        payload = request.json()
        if not isinstance(payload, dict):
            return request.body.decode("utf-8", "replace")
        return f"{payload.get('text')}\n{json.dumps(payload.get('blocks'), ensure_ascii=False)}"

    def good_answer(self, request):
        """What would have been said, of a message that isn't taken."""
        return json_answer({"ok": True}) if is_api(request) else Answer(200, b"ok")

    def status_answer(self, status, headers, _request):
        return Answer(status, b"<html><body>server error</body></html>", headers=headers,
                      code=f"http_{status}")

    # ---- what the journal asks ----

    def describe(self, _request, _reply):
        return {}

    def show_header(self, _name, value):
        return value


# Of people.py
DEEDS = ("press", "command", "submit", "close_view", "shortcut", "event", "challenge",
         "ssl_check", "answered")


class SlackControl(Control):
    def __init__(self, server):
        super().__init__(server)
        slack = server.service
        scheme = "https" if server.tls else "http"
        people = People(slack, lambda: f"{scheme}://127.0.0.1:{server.port}")
        self.calls.update({("POST", name): getattr(people, name) for name in DEEDS})
        self.calls.update({
            ("GET", "messages"): lambda _: slack.as_seen(),
            ("GET", "texts"): lambda _: slack.texts,
            ("POST", "tokens"): lambda body: merge(slack.token_errors, body),
            ("POST", "channels"): lambda body: merge(slack.channel_errors, body),
            ("POST", "groups"): slack.set_groups,
            ("POST", "scopes"): lambda body: merge(slack.scopes, body),
            ("POST", "plan"): lambda body: setattr(slack, "paid", bool(body["paid"])),
            ("POST", "expire"): lambda _: slack.tickets.expire(),
            ("POST", "trigger_life"): lambda body: slack.tickets.set_trigger_life(body["seconds"]),
            ("GET", "private"): lambda _: private_of(slack.private),
            ("GET", "views"): lambda _: slack.views,
        })


def is_api(request):
    return request.path.startswith("/api/")


def answer_code(fault, _request, _answer):
    code = fault["code"]
    return Answer(WEBHOOK_STATUS.get(code, 400), code.encode(), headers=headers_of(fault),
                  code=code)


def answer_api_error(fault, _request, _answer):
    return json_answer({"ok": False, "error": fault["api_error"]}, headers=headers_of(fault))


def answer_no_error(_fault, _request, _answer):
    return json_answer({"ok": False})
