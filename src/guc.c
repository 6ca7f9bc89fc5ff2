/*
 * guc.c
 *		Settings.  All are the server's: whoever may only ingest can't change
 *		what becomes of an event.
 */
#include "stripe_sync.h"

#include "utils/guc.h"

int guc_max_payload = 1024 * 1024;
int guc_max_attempts = 12;
int guc_handler_timeout = 5000;

void
guc_define(void)
{
	DefineCustomIntVariable(
		"stripe_sync.max_payload", "Largest webhook payload that is accepted.",
		"A larger one raises SY004; webhook() answers 413.", &guc_max_payload,
		1024 * 1024, 1024, 64 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, NULL,
		NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.max_attempts",
		"Tries of a step of an event, then the step is dead and so is the event.",
		"A dead event is run again by stripe_sync.replay() alone.",
		&guc_max_attempts, 12, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable(
		"stripe_sync.handler_timeout",
		"Longest time that one handler may take on one event; 0 is off.",
		"A handler that runs longer has failed; the rest of the event stands.",
		&guc_handler_timeout, 5000, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MS, NULL,
		NULL, NULL);

	MarkGUCPrefixReserved("stripe_sync");
}
