/*
 * block_buttons.c
 *		The buttons of an incident's message: blocks of type "actions".
 *
 * A button's value is the number of the incident.  Whoever acts on a press reads
 * everything else from the incident's row (bot/press.c), so that a message in
 * Slack can't say what is done.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define MAX_URL 3000 /* of a button */

typedef struct Button
{
	const char *action;
	const char *label;
	const char *style; /* primary, or NULL */
} Button;

/* ---- elements ---- */

static void
push_button(JsonbInState *state, const Button *button, const char *value,
			const char *url)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "button");
	blocks_push_string(state, "action_id", button->action);
	blocks_push_plain(state, "text", button->label);
	blocks_push_string(state, "value", value);
	if (button->style != NULL)
		blocks_push_string(state, "style", button->style);
	if (url != NULL)
		blocks_push_string(state, "url", url);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* A menu: for how long */
static void
push_snooze(JsonbInState *state, const char *value)
{
	static const struct
	{
		const char *label;
		const char *until;
	} options[] = {
		{"1 hour", "1h"}, {"Until tomorrow 9:00", "morning"}, {"1 day", "1d"}};

	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "static_select");
	blocks_push_string(state, "action_id", "stripe_sync.snooze");
	blocks_push_plain(state, "placeholder", "Snooze");
	blocks_push_key(state, "options");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < lengthof(options); i++)
	{
		compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
		blocks_push_plain(state, "text", options[i].label);
		blocks_push_string(state, "value",
						   psprintf("%s:%s", value, options[i].until));
		compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	}
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* Slack asks before the press is sent. */
static void
push_resolve(JsonbInState *state, const char *value)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "button");
	blocks_push_string(state, "action_id", "stripe_sync.resolve");
	blocks_push_plain(state, "text", "Resolve");
	blocks_push_string(state, "value", value);
	blocks_push_key(state, "confirm");
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_plain(state, "title", "Resolve this incident?");
	blocks_push_plain(state, "text",
					  "Everybody in the channel sees that it is resolved. If it "
					  "happens again, that is a new incident.");
	blocks_push_plain(state, "confirm", "Resolve");
	blocks_push_plain(state, "deny", "Cancel");
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* ---- which buttons ---- */

static bool
has_ref(const MessageButtons *buttons, const char *key)
{
	JsonbValue value;

	if (buttons->refs == NULL || !JB_ROOT_IS_OBJECT(buttons->refs) ||
		!json_get(&buttons->refs->root, key, &value))
		return false;
	return value.type == jbvBool ? value.val.boolean : value.type != jbvNull;
}

/* A page of Stripe's that a button can open, or NULL */
static char *
url_ref(const MessageButtons *buttons)
{
	char *url = has_ref(buttons, "url")
					? json_get_string(&buttons->refs->root, "url")
					: NULL;

	return url != NULL && strncmp(url, "https://", 8) == 0 &&
				   mrkdwn_length(url) <= MAX_URL
			   ? url
			   : NULL;
}

/* What everybody may want to do with an incident */
static void
push_common(JsonbInState *state, const MessageButtons *buttons,
			const char *value)
{
	char *url = url_ref(buttons);

	if (buttons->acknowledges)
		push_button(
			state,
			&(Button){"stripe_sync.acknowledge", "Acknowledge", "primary"},
			value, NULL);
	push_snooze(state, value);
	push_resolve(state, value);
	if (url != NULL)
		push_button(state, &(Button){"stripe_sync.open", "Open in Stripe"},
					value, url);
	if (has_ref(buttons, "trace"))
		push_button(state, &(Button){"stripe_sync.trace", "Show trace"}, value,
					NULL);
}

/* What mends what the extension reports about itself */
static const struct
{
	const char *key; /* in refs */
	Button button;
} remedies[] = {
	{"event", {"stripe_sync.retry_event", "Retry event"}},
	{"message", {"stripe_sync.retry_message", "Retry message"}},
	{"destination", {"stripe_sync.enable", "Switch on again"}},
	{"reconcile", {"stripe_sync.reconcile", "Reconcile now"}},
	{"finding", {"stripe_sync.mute_finding", "Mute this finding"}},
};

static bool
has_remedies(const MessageButtons *buttons)
{
	for (int i = 0; i < lengthof(remedies); i++)
		if (has_ref(buttons, remedies[i].key))
			return true;
	return false;
}

static void
push_remedies(JsonbInState *state, const MessageButtons *buttons,
			  const char *value)
{
	for (int i = 0; i < lengthof(remedies); i++)
		if (has_ref(buttons, remedies[i].key))
			push_button(state, &remedies[i].button, value, NULL);
}

/* ---- blocks ---- */

static void
push_actions(JsonbInState *state, const MessageButtons *buttons,
			 void (*push)(JsonbInState *, const MessageButtons *, const char *))
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "actions");
	blocks_push_key(state, "elements");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	push(state, buttons, psprintf(INT64_FORMAT, buttons->incident));
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* An array of one or two blocks */
Jsonb *
blocks_of_buttons(const MessageButtons *buttons)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	push_actions(&state, buttons, push_common);
	if (has_remedies(buttons))
		push_actions(&state, buttons, push_remedies);
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(state.result);
}
