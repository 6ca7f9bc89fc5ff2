/*
 * press.c
 *		Presses of the buttons of incidents: which button, whether the person may,
 *		of which incident.
 *
 * A button's value is the incident's number alone.  What it is about is read from
 * the incident's row, and never from the request.
 */
#include "postgres.h"

#include "storage/proc.h"
#include "utils/guc.h"

#include "engine/statement.h"
#include "bot/internal.h"

#define MOST_DIGITS			 18 /* of an incident's number */
#define LOCK_TIMEOUT_SETTING "2s"

typedef struct PressKind
{
	const char *name; /* without OWN_ACTION */
	SlackMay needed;
	bool when_closed; /* it is done for a closed incident, too */
	void (*act)(BotCall *call, const PressedIncident *incident);
} PressKind;

static const PressKind kinds[] = {
	{"acknowledge", MAY_ACT, false, press_acknowledge},
	{"snooze", MAY_ACT, false, press_snooze},
	{"resolve", MAY_ACT, false, press_resolve},
	{"trace", MAY_SEE, true, press_trace},
	{"retry_event", MAY_ADMINISTER, false, press_retry_event},
	{"retry_message", MAY_ADMINISTER, false, press_retry_message},
	{"enable", MAY_ADMINISTER, false, press_enable},
	{"reconcile", MAY_ADMINISTER, false, press_reconcile},
	{"mute_finding", MAY_ADMINISTER, false, press_mute_finding},
};

static const PressKind *
find_kind(const char *name)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* ---- the incident ---- */

/* "17" or "17:1h".  False if it is neither. */
static bool
read_value(const char *value, int64 *id, const char **option)
{
	int digits = value != NULL ? strspn(value, "0123456789") : 0;

	if (digits == 0 || digits > MOST_DIGITS ||
		(value[digits] != '\0' && value[digits] != ':'))
		return false;
	*id = strtoi64(value, NULL, 10);
	*option = value[digits] == ':' ? value + digits + 1 : NULL;
	return true;
}

static bool
find_incident(int64 id, PressedIncident *incident)
{
	static EngineStatement select = {
		"SELECT alert, destination, account, closed_by,"
		" CASE WHEN closed_by IS NOT NULL THEN closed_at END, refs"
		" FROM stripe_sync.incident_record WHERE id = $1"};
	bool found;
	Jsonb *refs;
	Rows rows;

	incident->id = id;
	rows_open(&rows, &select, ARGS(arg_int8(id)));
	found = rows_next(&rows);
	if (found)
	{
		incident->alert = rows_text(&rows);
		incident->destination = rows_text(&rows);
		incident->account = rows_text(&rows);
		incident->closed_by = rows_text(&rows);
		incident->closed_at = rows_time(&rows, 0);
		refs = rows_jsonb(&rows);
		if (refs != NULL && JB_ROOT_IS_OBJECT(refs))
			incident->refs = &refs->root;
	}
	rows_close(&rows);
	return found;
}

const char *
press_account(const PressedIncident *incident)
{
	char *account = incident->refs != NULL
						? json_get_string(incident->refs, "account")
						: NULL;

	if (account == NULL)
		account = incident->account;
	return account != NULL ? account : "";
}

/* ---- the press ---- */

/* The first press shows that the app's buttons are answered. */
static void
note_first_press(const char *app)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.slack_app SET first_press_at = pg_catalog.clock_timestamp()"
		" WHERE name = $1 AND first_press_at IS NULL"};

	(void) statement_exec(&update, ARGS(arg_text(app)));
}

/* Has the person, who may, pressed the button of an incident that is there? */
static void
press(BotCall *call, const PressKind *kind)
{
	PressedIncident incident = {0};
	int64 id = 0;
	bool readable = read_value(call->request->value, &id, &incident.option);
	bool found = readable && find_incident(id, &incident);

	if (found)
		call->incident = id;
	if (call->may < kind->needed)
		bot_refuse(call, kind->needed);
	else if (!found)
		press_tell_missing(call);
	else if (incident.closed_at != 0 && !kind->when_closed)
		press_tell_closed(call, incident.closed_by, incident.closed_at);
	else
		kind->act(call, &incident);
}

typedef struct Press
{
	BotCall *call;
	const PressKind *kind;
} Press;

static void
press_body(void *arg)
{
	Press *own = arg;

	press(own->call, own->kind);
}

/*
 * Slack waits for 3 seconds, and a user's transaction may hold a lock for longer.
 * A lock_timeout of the caller's is kept.  An error restores the setting, too.
 */
void
bot_wait_briefly(void (*body)(void *), void *arg)
{
	int nest = NewGUCNestLevel();

	if (LockTimeout == 0)
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT_SETTING,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	body(arg);
	AtEOXact_GUC(true, nest);
}

/*
 * "stripe_sync.open" opens a page in the browser and Slack sends its press as well:
 * it is ignored, as is a button that this version does not know.
 */
bool
press_run(BotCall *call)
{
	const char *name = call->request->name;
	const PressKind *kind;

	if (name == NULL || strncmp(name, OWN_ACTION, strlen(OWN_ACTION)) != 0)
		return false;
	name += strlen(OWN_ACTION);
	note_first_press(call->request->app);
	kind = find_kind(name);
	if (kind != NULL)
		bot_wait_briefly(press_body, &(Press){call, kind});
	else
		call->status = "ignored";
	return true;
}
