"""workspace.py: a Slack workspace: channels, webhooks, what they show.

A channel is named by "#name", "name" or an id (C...); a name has always the
same id.  chat.update takes ids alone, as Slack's does, and only messages of the
same bot (xoxb-TEAM-BOT-..., all other tokens are of one).  Everything is known
and allowed but what control.py was told of, and these:

    channels    nowhere (channel_not_found), archived (is_archived),
                private (not_in_channel)
    tokens      xoxb-revoked (token_revoked), xoxb-expired (token_expired),
                xoxb-inactive (account_inactive), xoxb-scopeless (missing_scope)
                and whatever doesn't begin with xoxb- or xoxp- (invalid_auth)
"""

import hashlib
import re
import time

from http11 import Answer, json_answer, read_json
from methods import METHODS
from places import APP, BOT, TEAM, USER, Message, Place
from rules import Refused, check_message
from tickets import Tickets

WEBHOOK = re.compile(r"/services/T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+")
CHANNEL_ID = re.compile(r"[CDG][A-Z0-9]{7,}")
CHANNEL_NAME = re.compile(r"#?[^\s#@,.A-Z]{1,80}")
TS = re.compile(r"\d{10}\.\d{6}")
BOT_TOKEN = re.compile(r"xoxb-(\d+-\d+)-.+")

# What a webhook's words for trouble come with.
WEBHOOK_STATUS = {
    "invalid_payload": 400, "no_text": 400, "too_many_attachments": 400, "user_not_found": 400,
    "invalid_blocks": 400, "invalid_blocks_format": 400,
    "action_prohibited": 403, "invalid_token": 403, "posting_to_general_channel_denied": 403,
    "team_disabled": 403,
    "channel_not_found": 404, "no_service": 404, "no_active_hooks": 404, "no_team": 404,
    "channel_is_archived": 410, "rollup_error": 500,
}

FORM_JSON = ("blocks", "attachments", "metadata", "view")


class Workspace:
    team, bot, user, app = TEAM, BOT, USER, APP

    def __init__(self):
        self.reset()

    def reset(self):
        self.channels = {}
        self.webhooks = {}
        self.accepted = 0
        self.texts = {}
        self.last_ts = 0
        self.token_errors = {"xoxb-revoked": "token_revoked", "xoxb-expired": "token_expired",
                             "xoxb-inactive": "account_inactive",
                             "xoxb-scopeless": "missing_scope"}
        self.channel_errors = {"nowhere": "channel_not_found", "archived": "is_archived",
                               "private": "not_in_channel"}
        self.tickets = Tickets(TEAM)
        self.private = []       # messages that one person sees
        self.views = []
        self.groups = {}
        self.paid = True
        self.scopes = {}        # of tokens that may not do everything

    def next_ts(self):
        self.last_ts = max(self.last_ts + 1, int(time.time() * 1000000))
        return f"{self.last_ts // 1000000}.{self.last_ts % 1000000:06}"

    def take(self, place, payload, bot=None):
        message = Message(self.next_ts(), payload, bot)
        place.add(message)
        self.count(payload)
        return message

    def count(self, payload):
        text = payload.get("text") or ""
        self.accepted += 1
        self.texts[text] = self.texts.get(text, 0) + 1

    def as_seen(self):
        return {
            "channels": {key: {"name": place.name, "messages": place.as_seen(key)}
                         for key, place in self.channels.items()},
            "webhooks": {key: place.as_seen(key) for key, place in self.webhooks.items()},
        }

    def answer(self, request):
        """What Slack says to a request; what it takes is in the workspace."""
        if WEBHOOK.fullmatch(request.path):
            return self.webhook(request)
        if request.path.startswith("/api/"):
            return self.api(request)
        if request.path.startswith("/services/"):
            return webhook_error("no_service")
        if request.path in self.tickets.urls:
            return self.tickets.respond(request, self.show_response)
        return Answer(404, b"not found", code="http_404")

    # ---- incoming webhooks ----

    def webhook(self, request):
        if request.method != "POST":
            return Answer(405, b"method not allowed", code="http_405")
        payload = webhook_payload(request)
        if not isinstance(payload, dict) or not is_text(payload.get("thread_ts")):
            return webhook_error("invalid_payload")
        try:
            check_message(payload)
        except Refused as refused:
            return webhook_error(refused.code if refused.code != "invalid_arguments"
                                 else "invalid_payload")
        place = self.webhooks.get(request.path)
        if not place:
            place = self.webhooks[request.path] = Place(request.path)
        self.take(place, payload)
        return Answer(200, b"ok")

    # ---- the Web API ----

    def api(self, request):
        method = request.path[len("/api/"):]
        if method not in API:
            return json_answer({"ok": False, "error": "unknown_method", "req_method": method})
        try:
            arguments, token = api_arguments(request)
            self.check_token(token)
            function, scope = API[method]
            self.check_scope(token, scope)
            value = function(self, arguments, token)
        except Refused as refused:
            return api_error(refused)
        if "application/json" == request.headers.get("content-type", "").strip().lower():
            value["warning"] = "missing_charset"
            value["response_metadata"] = {"warnings": ["missing_charset"]}
        return json_answer({"ok": True, **value}, headers=SCOPES)

    def check_token(self, token):
        if not token:
            raise Refused("not_authed")
        if token in self.token_errors:
            raise Refused(self.token_errors[token])
        if not token.startswith(("xoxb-", "xoxp-")):
            raise Refused("invalid_auth")

    def check_scope(self, token, scope):
        scopes = self.scopes.get(token)
        if scope and scopes is not None and scope not in scopes.split(","):
            raise Refused("missing_scope", needed=scope, provided=scopes)

    def channel(self, given, by_id):
        """Id and name of a channel; that it takes messages."""
        if not isinstance(given, str) or not given:
            raise Refused("invalid_arguments", "missing required field: channel")
        name = given.removeprefix("#")
        if CHANNEL_ID.fullmatch(given):
            key = given
            place = self.channels.get(key)
            name = place.name if place else given
        elif by_id or not CHANNEL_NAME.fullmatch(given):
            raise Refused("channel_not_found")
        else:
            key = channel_id(name)
        error = self.channel_errors.get(name) or self.channel_errors.get(key)
        if error:
            raise Refused(error)
        return key, name

    def post_message(self, arguments, token):
        key, name = self.channel(arguments.get("channel"), by_id=False)
        check_message(arguments)
        place = self.channels.get(key)
        check_thread(arguments.get("thread_ts"), place)
        if not place:
            place = self.channels[key] = Place(name)
        message = self.take(place, arguments, bot_of(token))
        return {"channel": key, "ts": message.ts, "message": message.api()}

    def update(self, arguments, token):
        key, _ = self.channel(arguments.get("channel"), by_id=True)
        if not arguments.get("ts") or not is_text(arguments["ts"]):
            raise Refused("invalid_arguments", "missing required field: ts")
        place = self.channels.get(key)
        message = place.messages.get(arguments["ts"]) if place else None
        if not message:
            raise Refused("message_not_found")
        if message.bot != bot_of(token):
            raise Refused("cant_update_message")
        check_message(arguments)
        message.update(arguments)
        self.count(arguments)
        return {"channel": key, "ts": message.ts, "text": message.text or "",
                "message": message.api()}

    def auth_test(self, _arguments, _token):
        return {"url": "https://stub.slack.com/", "team": "Stub", "user": "stripe_sync",
                "team_id": TEAM, "user_id": USER, "bot_id": BOT, "is_enterprise_install": False}


    # ---- what people do ----

    def id_of(self, place):
        return next(key for key, each in self.channels.items() if each is place)

    def place_of(self, given):
        """A channel by id or name; there is one by now."""
        name = given.removeprefix("#")
        key = given if CHANNEL_ID.fullmatch(given) else channel_id(name)
        return self.channels.setdefault(key, Place(name))

    def set_groups(self, groups):
        for group, members in groups.items():
            self.groups[group] = members
            if members is None:
                del self.groups[group]

    def show_response(self, context, payload):
        """What an answer to an interaction says, where it says so."""
        place, message = context.get("place"), context.get("message")
        if payload.get("delete_original") and message:
            place.remove(message)
        elif payload.get("replace_original") and message:
            message.update(payload)
            self.count(payload)
        elif payload.get("response_type") == "in_channel" and place:
            self.take(place, payload)
        else:
            self.accepted += 1
            self.private.append({"user": context["user"], "text": payload.get("text"),
                                 "blocks": payload.get("blocks"),
                                 "channel": self.id_of(place) if place else None})


# name: (its function, the scope that it wants)
API = {"chat.postMessage": (Workspace.post_message, "chat:write"),
       "chat.update": (Workspace.update, "chat:write"), "auth.test": (Workspace.auth_test, None),
       "api.test": (lambda _workspace, _arguments, _token: {}, None), **METHODS}
SCOPES = (("x-oauth-scopes", "chat:write"), ("x-accepted-oauth-scopes", "chat:write"))


def bot_of(token):
    """Which bot a token is of."""
    real = BOT_TOKEN.fullmatch(token)
    return real.group(1) if real else "one"


def is_text(value):
    """A string, or nothing?"""
    return value is None or isinstance(value, str)


def channel_id(name):
    return "C" + hashlib.sha1(name.encode()).hexdigest()[:10].upper()


def check_thread(ts, place):
    if ts is None:
        return
    if not isinstance(ts, str) or not TS.fullmatch(ts):
        raise Refused("invalid_arguments", "must be a timestamp [json-pointer:/thread_ts]")
    if not place or ts not in place.messages:
        raise Refused("thread_not_found")


def webhook_payload(request):
    """JSON in the body, or in the field "payload" of a form."""
    if request.kind() != "application/x-www-form-urlencoded":
        return request.json()
    return read_json(request.form().get("payload", "").encode())


def webhook_error(code):
    return Answer(WEBHOOK_STATUS.get(code, 400), code.encode(), code=code)


def api_arguments(request):
    """The arguments and the token; a JSON body carries no token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    if request.kind() == "application/json":
        arguments = request.json()
        if arguments is None:
            raise Refused("invalid_json")
        if not isinstance(arguments, dict):
            raise Refused("json_not_object")
        return arguments, token
    if request.body and request.kind() != "application/x-www-form-urlencoded":
        raise Refused("invalid_post_type" if request.kind() else "missing_post_type")
    arguments = form_arguments(request.form())
    return arguments, token or arguments.get("token", "")


def form_arguments(form):
    """A form carries what is structured as JSON."""
    for key in FORM_JSON:
        if key in form:
            form[key] = read_json(form[key].encode())
            if form[key] is None:
                raise Refused(f"invalid_{key}_format")
    return form


def api_error(refused):
    value = {"ok": False, "error": refused.code, **refused.more}
    if refused.details:
        value["errors"] = list(refused.details)
        value["response_metadata"] = {"messages": [f"[ERROR] {each}" for each in refused.details]}
    return json_answer(value, headers=SCOPES)
