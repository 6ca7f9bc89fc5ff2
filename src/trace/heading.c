/*
 * heading.c
 *		The heading of a story: what it is about, and how that stands now.
 *
 *	invoice in_2   €29.00   open → paid   customer cus_1 "Ada"   subscription sub_1
 */
#include "postgres.h"

#include "base/base.h"
#include "trace/internal.h"

#define NAME_COLUMNS 40

/* ---- parts ---- */

static void
add_part(StringInfo out, const char *part)
{
	if (part == NULL || part[0] == '\0')
		return;
	if (out->len > 0)
		appendStringInfoString(out, HEADING_SPACE);
	appendStringInfoString(out, part);
}

/* "payment intent" for payment_intent */
static char *
type_words(const char *type)
{
	char *words = words_plain(type, WORDS_ID);

	for (char *p = words; *p != '\0'; p++)
		if (*p == '_' || *p == '.')
			*p = ' ';
	return words;
}

/* Of several types that have the same id, that of the newest event */
static const char *
type_of(const TraceObject *object)
{
	const char *name = object->type_name;

	if (name == NULL && object->data != NULL)
		name = json_get_string(&object->data->root, "object");
	return name != NULL ? name : "object";
}

/* ---- status ---- */

static bool
is_type(const TraceObject *object, const char *type)
{
	return strcmp(type_of(object), type) == 0;
}

static bool
is_true(const TraceObject *object, const char *name)
{
	JsonbValue value;

	return json_get(&object->data->root, name, &value) &&
		   value.type == jbvBool && value.val.boolean;
}

/* "open → paid": from the first event of the story to now */
static char *
status_words(const TraceSubject *subject)
{
	char *now = subject->object->deleted
					? "deleted"
					: object_status(&subject->object->data->root);
	char *before = NULL;

	if (subject->first != NULL && subject->first->object != NULL)
		before = object_status(subject->first->object);
	if (now == NULL || before == NULL || strcmp(before, now) == 0)
		return now;
	return psprintf("%s → %s", before, now);
}

/* Why a charge or payment failed, or a dispute was opened; NULL: unknown */
static char *
reason_words(const TraceObject *object)
{
	static const char *const fields[] = {"failure_code", "reason",
										 "failure_reason"};
	JsonbContainer *error = json_get_object(&object->data->root,
											"last_payment_error");

	for (int i = 0; i < lengthof(fields); i++)
	{
		char *reason = object_text(object->type, &object->data->root, fields[i]);

		if (reason != NULL)
			return words_plain(reason, NAME_COLUMNS);
	}
	if (error == NULL || json_get_string(error, "code") == NULL)
		return NULL;
	return words_plain(json_get_string(error, "code"), NAME_COLUMNS);
}

/* What an object has beside its status */
static void
add_conditions(StringInfo out, const TraceObject *object)
{
	JsonbContainer *data = &object->data->root;
	JsonbValue ended;
	JsonbValue cancels;
	int64 at;

	if (is_true(object, "delinquent"))
		add_part(out, "delinquent");
	if (is_true(object, "disputed"))
		add_part(out, "disputed");
	if (is_type(object, "subscription") &&
		!object_field(object->type, data, "ended_at", &ended) &&
		json_get(data, "cancel_at", &cancels) && json_to_int64(&cancels, &at))
		add_part(out, psprintf("cancels %s", value_time(at)));
	else if (is_true(object, "cancel_at_period_end"))
		add_part(out, "cancels at the end of the period");
}

/* ---- relations ---- */

/* The id in a field of the object's, or NULL */
static char *
reference_of(const TraceObject *object, const char *name)
{
	return object->data != NULL
			   ? object_reference(object->type, &object->data->root, name)
			   : NULL;
}

static char *
name_of(const TraceObject *object)
{
	return object != NULL && object->data != NULL
			   ? object_name(object->type, &object->data->root)
			   : NULL;
}

/* The story's object of that type and, if not NULL, that id */
static TraceObject *
find_object(const TraceSubject *subject, const char *type, const char *id)
{
	TraceObject *found = NULL;
	ListCell *cell;

	foreach(cell, subject->objects)
	{
		TraceObject *object = lfirst(cell);

		if (object == subject->object || !is_type(object, type))
			continue;
		if (id != NULL && strcmp(object->id, id) == 0)
			return object;
		if (id == NULL && found != NULL)
			return NULL; /* which one is not known */
		if (id == NULL)
			found = object;
	}
	return found;
}

/*
 * "customer cus_1 "Ada"": what the object belongs to, by its own field, else the
 * only one in the story.
 */
static void
add_relation(StringInfo out, const TraceSubject *subject, const char *type)
{
	const TraceObject *object = subject->object;
	char *id = reference_of(object, type);
	TraceObject *other = find_object(subject, type, id);
	char *name;

	if (id == NULL && other != NULL)
		id = other->id;
	if (id == NULL || is_type(object, type))
		return;
	name = name_of(other);
	add_part(out,
			 psprintf("%s %s%s%s", type_words(type), words_plain(id, WORDS_ID),
					  name ? " " : "", name ? name : ""));
}

static void
add_relations(StringInfo out, const TraceSubject *subject)
{
	static const char *const of_payment[] = {"customer", "invoice", NULL};
	static const char *const of_claim[] = {"customer", "charge", NULL};
	static const char *const of_rest[] = {"customer", "subscription", "product",
										  "invoice", NULL};
	const TraceObject *object = subject->object;
	const char *const *types = of_rest;
	const char *const *first;

	if (is_type(object, "customer") || is_type(object, "product"))
		return;
	if (is_type(object, "charge") || is_type(object, "payment_intent"))
		types = of_payment;
	else if (is_type(object, "dispute") || is_type(object, "refund"))
		types = of_claim;
	first = types;
	for (; *types != NULL; types++)
		if (reference_of(object, *types) != NULL || first != of_rest)
			add_relation(out, subject, *types);
}

/* ---- headings ---- */

static void
add_object(StringInfo out, const TraceSubject *subject)
{
	const TraceObject *object = subject->object;

	add_part(out, psprintf("%s %s", type_words(type_of(object)),
						   words_plain(object->id, WORDS_ID)));
	add_part(out, name_of(object));
	if (object->data != NULL)
	{
		JsonbContainer *data = &object->data->root;
		char *email = object_text(object->type, data, "email");

		add_part(out, email != NULL ? words_plain(email, NAME_COLUMNS) : NULL);
		add_part(out, object_amount(object->type, data));
		add_part(out, status_words(subject));
		add_part(out, object_refunded(data));
		add_part(out, reason_words(object));
		add_conditions(out, object);
		add_relations(out, subject);
	}
	else
		add_part(out, object->deleted ? "deleted" : NULL);
	if (object->account != NULL && object->account[0] != '\0')
		add_part(out,
				 psprintf("account %s", words_plain(object->account, WORDS_ID)));
}

static void
add_event(StringInfo out, const Event *event)
{
	add_part(out, psprintf("event %s", words_plain(event->id, WORDS_ID)));
	add_part(out, words_plain(event->type, WORDS_ID));
	if (event->account[0] != '\0')
		add_part(out,
				 psprintf("account %s", words_plain(event->account, WORDS_ID)));
}

/* A message, an incident or a job */
static void
add_numbered(StringInfo out, const TraceSubject *subject, const char *kind,
			 const char *of)
{
	add_part(out, psprintf("%s " INT64_FORMAT, kind, subject->number));
	if (subject->state != NULL)
		add_part(out, words_plain(subject->state, NAME_COLUMNS));
	if (subject->name != NULL)
		add_part(out,
				 psprintf("%s%s", of, words_plain(subject->name, WORDS_ID)));
	if (subject->text != NULL)
		add_part(out, psprintf("\"%s\"", words_plain(subject->text, WORDS_ID)));
}

char *
trace_heading(const TraceSubject *subject)
{
	StringInfoData out;

	initStringInfo(&out);
	if (subject->kind == TRACE_OF_OBJECT && subject->object != NULL)
		add_object(&out, subject);
	else if (subject->kind == TRACE_OF_EVENT && subject->event != NULL)
		add_event(&out, subject->event);
	else if (subject->kind == TRACE_OF_MESSAGE)
		add_numbered(&out, subject, "message", "to ");
	else if (subject->kind == TRACE_OF_INCIDENT)
		add_numbered(&out, subject, "incident", "alert ");
	else if (subject->kind == TRACE_OF_JOB)
		add_numbered(&out, subject, "job", "");
	else
		add_part(&out, words_plain(subject->ref, WORDS_ID));
	return out.data;
}
