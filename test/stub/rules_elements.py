"""rules_elements.py: what stands in blocks: buttons, menus, inputs.  See rules.py."""

from rules_words import bad, check_items, check_keys, check_string, check_text

MAX_ID = 255
PLAIN = ("plain_text",)

ELEMENTS = {
    "button", "checkboxes", "datepicker", "datetimepicker", "overflow", "radio_buttons",
    "static_select", "multi_static_select", "users_select", "multi_users_select",
    "conversations_select", "multi_conversations_select", "channels_select",
    "multi_channels_select", "external_select", "multi_external_select", "timepicker",
    "workflow_button", "feedback_buttons", "icon_button",
}
NOT_INPUTS = {"button", "overflow", "workflow_button", "feedback_buttons", "icon_button"}
INPUTS = ELEMENTS - NOT_INPUTS | {
    "plain_text_input", "email_text_input", "url_text_input", "number_input", "rich_text_input",
    "file_input",
}


def check_element(element, at, kinds):
    if not isinstance(element, dict) or str(element.get("type")) not in kinds:
        raise bad("unsupported type of element", at)
    if element.get("action_id") is not None:
        check_string(element["action_id"], MAX_ID, f"{at}/action_id")
    if element.get("placeholder") is not None:
        check_text(element["placeholder"], 150, f"{at}/placeholder", PLAIN)
    if element.get("confirm") is not None:
        check_confirm(element["confirm"], f"{at}/confirm")
    check = CHECKS.get(element["type"])
    if check:
        check(element, at)


def check_image(block, at):
    if block.get("slack_file") is None:
        check_string(block.get("image_url"), 3000, f"{at}/image_url")
    check_string(block.get("alt_text"), 2000, f"{at}/alt_text")
    if block.get("title") is not None:
        check_text(block["title"], 2000, f"{at}/title", PLAIN)


def check_button(button, at):
    check_keys(button, {"type", "text", "action_id", "url", "value", "style", "confirm",
                        "accessibility_label"}, at)
    check_text(button.get("text"), 75, f"{at}/text", PLAIN)
    if button.get("url") is not None:
        check_string(button["url"], 3000, f"{at}/url")
    if button.get("value") is not None:
        check_string(button["value"], 2000, f"{at}/value")
    if button.get("style") not in (None, "primary", "danger"):
        raise bad("must be one of primary, danger", f"{at}/style")


def check_confirm(confirm, at):
    if not isinstance(confirm, dict):
        raise bad("must be an object", at)
    check_keys(confirm, {"title", "text", "confirm", "deny", "style"}, at)
    for key, longest, kinds in (("title", 100, PLAIN), ("text", 300, ("plain_text", "mrkdwn")),
                                ("confirm", 30, PLAIN), ("deny", 30, PLAIN)):
        check_text(confirm.get(key), longest, f"{at}/{key}", kinds)


def check_option(option, at, kinds=PLAIN):
    if not isinstance(option, dict):
        raise bad("must be an object", at)
    check_keys(option, {"text", "value", "description", "url"}, at)
    check_text(option.get("text"), 75, f"{at}/text", kinds)
    check_string(option.get("value"), 150, f"{at}/value")
    if option.get("description") is not None:
        check_text(option["description"], 75, f"{at}/description", kinds)


def check_options(options, most, at, kinds=PLAIN):
    check_items(options, most, at)
    for i, option in enumerate(options):
        check_option(option, f"{at}/{i}", kinds)


def check_select(select, at):
    check_keys(select, {"type", "action_id", "placeholder", "options", "option_groups",
                        "initial_option", "confirm", "focus_on_load"}, at)
    if (select.get("options") is None) == (select.get("option_groups") is None):
        raise bad("either options or option_groups", at)
    if select.get("options") is not None:
        check_options(select["options"], 100, f"{at}/options")
        every = select["options"]
    else:
        check_items(select["option_groups"], 100, f"{at}/option_groups")
        every = []
        for i, group in enumerate(select["option_groups"]):
            here = f"{at}/option_groups/{i}"
            check_text(group.get("label"), 75, f"{here}/label", PLAIN)
            check_options(group.get("options"), 100, f"{here}/options")
            every += group["options"]
    if select.get("initial_option") is not None and select["initial_option"] not in every:
        raise bad("must match one of the options", f"{at}/initial_option")


def check_overflow(menu, at):
    check_keys(menu, {"type", "action_id", "options", "confirm"}, at)
    check_options(menu.get("options"), 5, f"{at}/options")


def check_choices(choices, at):
    check_options(choices.get("options"), 10, f"{at}/options", ("plain_text", "mrkdwn"))


def check_text_input(element, at):
    check_keys(element, {"type", "action_id", "placeholder", "initial_value", "multiline",
                         "min_length", "max_length", "dispatch_action_config", "focus_on_load"}, at)
    for key in ("min_length", "max_length"):
        length = element.get(key)
        if length is not None and (not isinstance(length, int) or not 0 <= length <= 3000):
            raise bad("must be from 0 to 3000", f"{at}/{key}")


CHECKS = {
    "button": check_button, "image": check_image, "static_select": check_select,
    "overflow": check_overflow, "checkboxes": check_choices, "radio_buttons": check_choices,
    "plain_text_input": check_text_input,
}
