"""control.py: how tests talk to the stub about itself: JSON under /_control/.

    POST faults         [rule, ...]: the rules in force from now on (faults.py)
    POST faults/add     [rule, ...]: more of them, behind those
    GET  faults         the rules, how often each was used and is still to be
    GET  messages       {"channels": {id: {"name", "messages"}}, "webhooks": {path: messages}};
                        a message has ts, text, blocks, updates, replies, what a
                        person would read ("shown") and whom it would ring ("pings")
    GET  texts          {text: how often a message of it was taken or updated to}
    GET  stats          counters, see Stats in server.py
    POST rate           {"per_second": 1, "burst": 3, "retry_after": 1}: 429 to who is
                        faster, per webhook and channel; {} switches it off
    POST tokens         {"xoxb-...": "token_revoked", ...}; null: it is good again
    POST channels       {"name or id": "is_archived", ...}; null: it is good again
    POST listen         {"mode": "open" | "closed" | "silent"}: closed refuses connections
                        and ends those there are; silent accepts them and says nothing, not
                        even TLS (until the next change of mode)
    POST disconnect     ends every connection that waits for nothing
    POST journal        {"enabled": false}: write nothing into requests.jsonl
    POST reset          forget everything; the modes above are as at the start
"""

from http11 import json_answer

PREFIX = "/_control/"


class Control:
    def __init__(self, server):
        self.server = server
        self.calls = {
            ("GET", "faults"): lambda _: server.faults.show(),
            ("POST", "faults"): self.set_faults,
            ("POST", "faults/add"): self.add_faults,
            ("GET", "messages"): lambda _: server.workspace.as_seen(),
            ("GET", "texts"): lambda _: server.workspace.texts,
            ("GET", "stats"): lambda _: server.stats.show(server),
            ("POST", "rate"): self.set_rate,
            ("POST", "tokens"): lambda body: merge(server.workspace.token_errors, body),
            ("POST", "channels"): lambda body: merge(server.workspace.channel_errors, body),
            ("POST", "listen"): self.listen,
            ("POST", "disconnect"): lambda _: server.disconnect(),
            ("POST", "journal"): self.journal,
            ("POST", "reset"): lambda _: server.reset(),
        }

    def answer(self, request):
        call = self.calls.get((request.method, request.path[len(PREFIX):]))
        if not call:
            return json_answer({"error": "no such call"}, 404)
        try:
            value = call(request.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)
        return json_answer({"done": True} if value is None else value)

    def set_faults(self, body):
        self.server.faults.set(as_list(body))

    def add_faults(self, body):
        self.server.faults.add(as_list(body))

    def set_rate(self, body):
        self.server.pace.set(body or {})

    def listen(self, body):
        self.server.set_mode(body["mode"])

    def journal(self, body):
        self.server.journal.enabled = bool(body["enabled"])


def as_list(body):
    if isinstance(body, dict):
        body = body.get("faults", [body])
    return body


def merge(errors, body):
    for key, error in body.items():
        errors.pop(key.removeprefix("#"), None)
        if error:
            errors[key.removeprefix("#")] = error
