#!/usr/bin/env python3
"""check_rules.py: the rules for what stands in blocks, and for modals, by size.

Prints "ok - name" and "not ok - name"; who runs it counts.
"""

import sys

sys.dont_write_bytecode = True

from rules import Refused, check_message
from rules_views import check_response_action, check_view


def plain(length):
    return {"type": "plain_text", "text": "x" * length}


def option(text=1, value=1, **more):
    return {"text": plain(text), "value": "x" * value, **more}


def button(**more):
    return {"type": "button", "text": plain(1), "action_id": "a", **more}


def select(**more):
    return {"type": "static_select", "action_id": "a", "options": [option()], **more}


def confirm(title=1, text=1, yes=1, no=1):
    return {"title": plain(title), "text": plain(text), "confirm": plain(yes), "deny": plain(no)}


def question(**more):
    return {"type": "input", "block_id": "q", "label": plain(1),
            "element": {"type": "plain_text_input", "action_id": "a"}, **more}


def modal(**more):
    return {"type": "modal", "title": plain(24), "blocks": [], **more}


def verdict(check, value):
    try:
        check(value)
    except Refused as refused:
        return refused.code
    return "ok"


def expect(name, check, value, expected):
    got = verdict(check, value)
    print(f"{'ok' if got == expected else 'not ok'} - {name}: {expected}")
    if got != expected:
        print(f"#      got: {got}")


def expect_both(name, check, good, bad, code):
    """At its limit it is taken, and one past it isn't."""
    expect(name, check, good, "ok")
    expect(f"{name}, too long or too many", check, bad, code)


def element(what):
    return {"text": "x", "blocks": [{"type": "actions", "elements": [what]}]}


def check_elements():
    for name, good, bad in [
        ("button: text", button(text=plain(75)), button(text=plain(76))),
        ("button: value", button(value="x" * 2000), button(value="x" * 2001)),
        ("button: url", button(url="x" * 3000), button(url="x" * 3001)),
        ("button: action_id", button(action_id="x" * 255), button(action_id="x" * 256)),
        ("button: style", button(style="danger"), button(style="loud")),
        ("menu: options", select(options=[option()] * 100), select(options=[option()] * 101)),
        ("menu: text", select(options=[option(text=75)]), select(options=[option(text=76)])),
        ("menu: value", select(options=[option(value=150)]), select(options=[option(value=151)])),
        ("menu: placeholder", select(placeholder=plain(150)), select(placeholder=plain(151))),
        ("menu: first choice", select(initial_option=option()),
         select(initial_option=option(value=2))),
        ("menu: groups", {**select(), "options": None, "option_groups": [
            {"label": plain(75), "options": [option()]}]}, select(option_groups=[])),
        ("overflow: options", {"type": "overflow", "options": [option()] * 5},
         {"type": "overflow", "options": [option()] * 6}),
        ("confirm: title", button(confirm=confirm(title=100)), button(confirm=confirm(title=101))),
        ("confirm: text", button(confirm=confirm(text=300)), button(confirm=confirm(text=301))),
        ("confirm: yes", button(confirm=confirm(yes=30)), button(confirm=confirm(yes=31))),
        ("confirm: no", button(confirm=confirm(no=30)), button(confirm=confirm(no=31))),
    ]:
        expect_both(name, check_message, element(good), element(bad), "invalid_blocks")
    expect("a text input outside of a modal's input", check_message,
           element(question()["element"]), "invalid_blocks")


def check_modals():
    for name, good, bad in [
        ("view: title", modal(), modal(title=plain(25))),
        ("view: submit", modal(submit=plain(24)), modal(submit=plain(25))),
        ("view: close", modal(close=plain(24)), modal(close=plain(25))),
        ("view: callback_id", modal(callback_id="x" * 255), modal(callback_id="x" * 256)),
        ("view: private_metadata", modal(private_metadata="x" * 3000),
         modal(private_metadata="x" * 3001)),
        ("view: external_id", modal(external_id="x" * 255), modal(external_id="x" * 256)),
        ("view: blocks", modal(blocks=[{"type": "divider"}] * 100),
         modal(blocks=[{"type": "divider"}] * 101)),
        ("view: an input wants submit", modal(blocks=[question()], submit=plain(1)),
         modal(blocks=[question()])),
        ("view: its type", modal(), modal(type="home")),
        ("view: its keys", modal(notify_on_close=True), modal(colour="red")),
        ("view: an input's label", modal(blocks=[question(label=plain(2000))], submit=plain(1)),
         modal(blocks=[question(label=plain(2001))], submit=plain(1))),
    ]:
        expect_both(name, check_view, good, bad, "invalid_arguments")
    expect("view: as a whole", check_view, modal(blocks=[{"type": "x" * 260000}]), "view_too_large")
    expect("no view", check_view, "view", "invalid_arguments")


def check_answers():
    for answer, expected in [
        ({"response_action": "clear"}, "ok"),
        ({"response_action": "errors", "errors": {"q": "Why?"}}, "ok"),
        ({"response_action": "errors", "errors": {}}, "invalid_arguments"),
        ({"response_action": "update", "view": modal()}, "ok"),
        ({"response_action": "push", "view": modal(title=plain(25))}, "invalid_arguments"),
        ({"response_action": "sing"}, "invalid_arguments"),
        ({"text": "x"}, "invalid_arguments"),
    ]:
        expect(f"response_action: {str(answer)[:50]}", check_response_action, answer, expected)


check_elements()
check_modals()
check_answers()
