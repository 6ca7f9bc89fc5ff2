/*
 * simulate.h
 *		What the rooms of simulate() show each other: objects of which little is
 *		told, what a simulated event follows, stories.
 */
#ifndef STRIPE_SYNC_SIMULATE_H
#define STRIPE_SYNC_SIMULATE_H

#include "mirror.h"

/* ---- in fixture.c: objects and stories that are compiled in ---- */

/* src/generated/fixture_data.c is made of src/fixtures/ by its generate.pl. */
typedef struct Fixture
{
	const char *name; /* an object type, an event type, or a story */
	const char *json;
} Fixture;

extern const Fixture fixture_objects[];
extern const int nfixture_objects;
extern const Fixture fixture_stories[];
extern const int nfixture_stories;

/* What the "$..." of a fixture stand for. */
typedef struct FixtureNames
{
	int64 at;		/* $t: the event's time, seconds of Unix time */
	const char *id; /* $id: the object's, or NULL */
	/* of a story */
	int64 start;			/* $start: its first event's time */
	const char *own;		/* what "*" in an id stands for */
	const char *customer;	/* $customer, when the caller has named one */
	JsonbContainer *ids[2]; /* or NULL: the step's, the story's */
	JsonbContainer *times;	/* or NULL: seconds after the start */
	JsonbContainer *parts;	/* or NULL */
} FixtureNames;

extern Jsonb *fixture_find(const Fixture *fixtures, int count, const char *name);
extern Jsonb *fixture_fill(const FixtureNames *names, JsonbContainer *fixture);
extern Jsonb *fixture_object(const CatalogType *type, const char *event_type,
							 const char *id, int64 at);
extern Jsonb *fixture_lay_over(Jsonb *object, Jsonb *upon);
extern char *fixture_random(void);

/* ---- in predecessor.c: what a simulated event follows ---- */
typedef struct Predecessor
{
	EventHistory *history;	/* of the object */
	MirrorState row;		/* as the mirror has it */
	JsonbContainer *now;	/* the object as it is, or NULL */
	JsonbContainer *before; /* as the event comes upon it, or NULL */
	bool is_dead;
} Predecessor;

extern Predecessor *predecessor_find(const CatalogType *type, const char *id,
									 const char *account, TimestampTz until);
extern bool predecessor_is_none(const Predecessor *predecessor);
extern TimestampTz predecessor_last(const Predecessor *predecessor);
extern bool predecessor_is_followed(const Predecessor *predecessor,
									Event *event);

/* ---- in previous.c ---- */
extern Jsonb *json_previous(JsonbContainer *before, JsonbContainer *after);

/* ---- in simulate.c: an event is made, signed and received ---- */
typedef struct Simulation
{
	const char *type; /* of the event */
	Jsonb *object;	  /* what is told of it */
	const char *account;
	bool has_created; /* else it is now, or as soon as it can be */
	int64 created;	  /* seconds of Unix time */
	bool has_previous;
	Jsonb *previous;	 /* or NULL: none */
	bool as_stripe_does; /* previous_attributes of updates alone */
} Simulation;

extern void simulate_find_endpoint(const char *name, Endpoint *endpoint);
extern const char *simulate_account(const Endpoint *endpoint,
									const char *account);
extern char *simulate_receive(const Endpoint *endpoint,
							  const Simulation *simulation, Receipt *receipt);

#endif /* STRIPE_SYNC_SIMULATE_H */
